"""Differentiable physics for microscopy: kernels, operators, losses, networks and the evidence.

Sub-packages, in the order in which data flows (each imports only from those before it):
``optics``, ``operators``, ``losses``, ``metrics``, ``synthetic``, ``models``, ``solvers``,
``training``, ``io``, ``pipelines``. Importing ``dps_jax`` itself imports none of them.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dps-jax")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.1.0"

__all__ = ["__version__"]
