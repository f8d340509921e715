"""Released parameters: one ``.safetensors`` file per network, with its config and provenance in the header.

Files are made by the commands of ``experiments`` and read without executing code.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dps_jax import models
from dps_jax.io.errors import UserError
from dps_jax.io.parameters import read_parameters, write_parameters
from dps_jax.typing import Array, Params

# The file that was released for each task.
RELEASED = {
    "restore": "universal.safetensors",
    "denoise": "denoise.safetensors",
    "sim": "sim.safetensors",
    "artefacts": "artefacts.safetensors",
    "artefact-features": "artefact_features.safetensors",
    "rings": "rings.safetensors",
    "flow": "flow.safetensors",
}


@dataclass(frozen=True, eq=False)
class Network:
    """A network with its parameters: what ``pipelines`` apply.

    ``abbe_px`` is the Abbe period in input pixels that it was trained at, ``header`` its config and provenance,
    ``sha256`` the hash of its file (empty where there is none).
    """

    module: Any
    params: Params
    abbe_px: float
    header: dict[str, Any]
    sha256: str = ""

    def __call__(self, image: Array) -> Array:
        """Map images ``(b, y, x, c)`` to ``(b, s y, s x, 1)``, or what else the module takes."""
        return self.module.apply({"params": self.params}, image)


def released_path(*, task: str = "restore") -> Path:
    """Return the path of the released weights of a task inside the installed package."""
    return Path(str(files(__package__).joinpath(RELEASED[task])))


def save_network(
    path: Path,
    module: Any,
    params: Params,
    *,
    abbe_px: float,
    header: dict[str, Any],
    task: str = "restore",
) -> None:
    """Write a network to one file.

    Parameters
    ----------
    task
        What the network is for, of :data:`RELEASED`.
    header
        Provenance: config, seed, version, final numbers; JSON types.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    name, sizes = models.config_of(module)
    about = {"task": task, "model": name, "sizes": sizes, "abbe_px": abbe_px}
    write_parameters(path, jax.device_get(params), header={**header, **about})


def load_network(*, path: Path | None = None, task: str = "restore") -> Network:
    """Load a network from a file, by default the released one of the task.

    Every array of a file that is named is checked against the sizes it claims; the released ones are by the tests.

    Raises
    ------
    UserError
        If the file cannot be read, is no weights file, is one of another task, or does not fit the network it names.
    """
    released = path is None
    path = released_path(task=task) if path is None else Path(path)
    params, header, sha256 = read_parameters(path)
    found = header.get("task", "restore")
    if found != task:
        raise UserError(
            f"expected weights to {task} with, got some to {found} with in {path}; choose others."
        )
    try:
        module = models.build(header["model"], header["sizes"])
        abbe_px = float(header["abbe_px"])
        # It takes half a second to trace a network for its shapes.
        if not released:
            _check_arrays(params, module)
    except (KeyError, TypeError, ValueError) as problem:
        raise UserError(
            f"the weights file {path} does not fit this dps-jax: {problem}; "
            "install the version it was made with, or train it again."
        ) from None
    return Network(module, params, abbe_px, header, sha256)


def _sample_shape(module: Any) -> tuple[int, ...]:
    if isinstance(module, models.RingReader):
        return (1, module.inputs)
    side = module.grid_multiple
    return (1, side, side, getattr(module, "inputs", 1))


def _check_arrays(params: Params, module: Any) -> None:
    """Refuse parameters that are not the module's by name, shape and type."""
    sample = jnp.zeros(_sample_shape(module))
    template = jax.eval_shape(module.init, jax.random.key(0), sample)["params"]
    found, wanted = (
        {
            jax.tree_util.keystr(k): (v.shape, str(v.dtype))
            for k, v in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (params, template)
    )
    for name in sorted(set(found) | set(wanted)):
        if found.get(name) != wanted.get(name):
            raise ValueError(f"expected the array {name} as {wanted.get(name)}, found {found.get(name)}")
