"""Removal of the artefacts of super-resolution methods from one image: coherent waves first, the rest by a network.

Stripes and honeycombs are the same wave all over an image, which a network that looks at a few periods cannot see; they
are found in the spectrum and divided out (``solvers.stripes``). For the rest there is a network that was shown their
like. It answers with the image as it would have it. How much of its change is made is decided place by place: where
the change is no more than what the network also does to clean images, none of it (:func:`gate`). What an image is left
with where the network finds nothing is then the image itself, to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax import _checks
from dps_jax.metrics.light import brightness
from dps_jax.operators.sampling import resample_region
from dps_jax.pipelines.tiling import mirrored, plan_tiles
from dps_jax.solvers.stripes import BELIEVED, Wave, find_waves, remove_waves
from dps_jax.typing import Array, Params
from dps_jax.weights import Network

# Images whose Abbe period in px is off by up to this share from the trained one are taken as they are: the artefacts
# of training differ by more among themselves, and resampling is not without traces of its own.
TOLERANCE = 0.2
# Local change relative to the local image below which nothing is an artefact, and from which on all of it is; and
# over how many Abbe periods (standard deviation) the two are compared. Set on structures of the training families,
# of which the released network changes clean images by 2 to 3 % and, behind this gate, none of twelve by 1 %.
QUIET, LOUD = 0.04, 0.06
_NEIGHBOURHOOD = 8.0
# Light of the surroundings, relative to the whole image, on which a change is not measured: darkness has none.
_FLOOR = 0.1
# From the image's brightness (``metrics.light``) to the network's unit: the brightest pixel, as a rule 1.5 times as
# bright, then comes to 0.6, the middle of what the network was trained on.
_UNIT = 2.5


@dataclass(frozen=True, eq=False)
class Cleaned:
    """An image ``(y, x)`` without its artefacts; ``strength`` is ``||in - out|| / ||in||``, 0 where none was found."""

    image: np.ndarray
    strength: float
    notes: tuple[str, ...]


def remove_artefacts(image: np.ndarray, network: Network, *, abbe_px: float, tile_px: int = 512) -> Cleaned:
    """Remove artefacts from one super-resolved image without background.

    Parameters
    ----------
    image
        ``(y, x)``, of any unit; the answer is linear in it.
    network
        From ``load_network(task="artefacts")``.
    abbe_px
        Abbe period, in px of ``image``, of the image that was super-resolved: 5 for the released restoration of an
        image of 2.5 px per period on pixels half as long.
    tile_px
        Side of the tiles that the network sees at once, without their overlap.

    Returns
    -------
    The image, with as many photons as before, and how much was changed. The light of what was removed is spread evenly
    over where it was: a level far below that of an artefact, above what was there.

    Raises
    ------
    ValueError
        For an image that is not ``(y, x)``, or holds values that are not finite, or an ``abbe_px`` that is not above 0.

    Notes
    -----
    An image whose ``abbe_px`` is off by more than 20 % is resampled to the network's; only its change is resampled
    back, so that what is no artefact keeps its own pixels.
    """
    _checks.finite_plane(image)
    _checks.positive("abbe_px", abbe_px)
    image = np.asarray(image, np.float32)
    unit = _UNIT * brightness(np.maximum(image, 0), abbe_px=abbe_px)
    if not unit > 0:
        return Cleaned(image.copy(), 0.0, ("the image holds no light; it is left as it is",))
    waves = find_waves(image, abbe_px=abbe_px)
    even = remove_waves(image, waves)
    factor = network.abbe_px / abbe_px
    if abs(factor - 1) <= TOLERANCE:
        factor = 1.0
    plane = _resampled(even, factor, _scaled(image.shape, factor)) / unit
    change = run_network(plane, network, tile_px=tile_px) - plane
    share = gate(change, plane, abbe_px=network.abbe_px)
    made, where = (_resampled(i, 1 / factor, image.shape) for i in (share * change, share))
    out = even + np.float32(unit) * _without_sum(made, where)
    strength = float(np.linalg.norm(out - image) / np.linalg.norm(image))
    return Cleaned(out, strength, (*map(_about, waves), *_notes(strength, factor)))


def run_network(plane: np.ndarray, network: Network, *, tile_px: int) -> np.ndarray:
    """Return the network's bare answer to ``(y, x)``, bright about 1, computed in tiles that overlap by its reach."""
    module = network.module
    out = np.empty(plane.shape, np.float32)
    for tile in plan_tiles(plane.shape, tile_px=tile_px, halo_px=module.reach, multiple=module.grid_multiple):
        rows, columns = (mirrored(*span, n) for span, n in zip(tile.padded, plane.shape, strict=True))
        answer = np.asarray(_apply(module, network.params, jnp.asarray(plane[np.ix_(rows, columns)])))
        core = tuple(slice(a, b) for a, b in tile.core)
        inner = tuple(slice(module.reach, module.reach + b - a) for a, b in tile.core)
        out[core] = answer[inner]
    return out


@partial(jax.jit, static_argnames="module")
def _apply(module: Any, params: Params, tile: Array) -> Array:
    return module.apply({"params": params}, tile[None, :, :, None])[0, :, :, 0]


def gate(change: np.ndarray, image: np.ndarray, *, abbe_px: float) -> np.ndarray:
    """Return the share of the change, from 0 to 1 and ``(y, x)``, that is to be made: 0 where there is no artefact.

    Compared are the root mean squares of change and image in a Gaussian neighbourhood of eight periods. Below 4 % there
    is no artefact, from 6 % on there is one, and in between a share of the change is made, so that nothing jumps. The
    price is that an artefact weaker than that, or a single hot pixel on a bright ground, stays.
    """
    sigma_px = _NEIGHBOURHOOD * abbe_px

    def local(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(np.square(values, dtype=float), sigma_px, mode="reflect")

    light = local(image) + _FLOOR**2 * np.mean(np.square(image, dtype=float))
    ratio = np.sqrt(np.maximum(local(change), 0) / np.maximum(light, 1e-30))
    return np.clip((ratio - QUIET) / (LOUD - QUIET), 0, 1).astype(np.float32)


def _without_sum(change: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Give the light that a change takes away, or adds, back evenly to where changes are made.

    Not in proportion to the image: of artefacts in the dark, whose light belongs to nothing, structures would grow.
    """
    total = float(np.sum(where, dtype=float))
    level = float(np.sum(change, dtype=float)) / total if total > 0 else 0.0
    return (change - level * where).astype(np.float32)


def _scaled(shape: tuple[int, ...], factor: float) -> tuple[int, int]:
    rows, columns = (max(1, int(np.ceil(n * factor - 1e-9))) for n in shape)
    return rows, columns


def _resampled(image: np.ndarray, factor: float, shape: tuple[int, ...]) -> np.ndarray:
    """Bring values, not sums, to pixels ``1 / factor`` as long."""
    if factor == 1:
        return image
    kernel = "area" if factor < 0.5 else "lanczos"
    sums = resample_region(image, np.arange(shape[0]), np.arange(shape[1]), factor, kernel=kernel)
    return (factor**2 * sums).astype(np.float32)


def _about(wave: Wave) -> str:
    return (
        f"stripes of {wave.period_px:.2f} px, {100 * wave.depth:.0f} % deep, were divided out "
        f"(evidence {wave.evidence:.0f} where {BELIEVED:.0f} is believed)"
    )


def _notes(strength: float, factor: float) -> tuple[str, ...]:
    found = (
        "no artefact found; the image is left as it is"
        if strength == 0
        else f"{100 * strength:.1f} % of the image was taken for artefacts and changed"
    )
    if factor == 1:
        return (found,)
    return (found, f"artefacts were looked for on pixels {1 / factor:.2f} times as long as the image's")
