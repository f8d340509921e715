"""Differentiable physics for microscopy: kernels, operators, losses, networks and the evidence.

Sub-packages, in the order in which data flows (each imports only from those before it):
``optics``, ``operators``, ``losses``, ``metrics``, ``synthetic``, ``models``, ``solvers``,
``training``, ``io``, ``pipelines``. Importing ``dps_jax`` itself imports none of them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    """Look the version up when it is asked for: that takes long enough for a Ctrl-C to fall into."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("dps-jax")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0.1.0"
