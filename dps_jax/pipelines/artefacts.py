"""Removal of the artefacts of super-resolution methods from one image: what is everywhere first, the rest by a network.

Seams, stripes and honeycombs, ringing and hammer-stroke follow one rule all over an image, which a network that looks
at a few periods cannot see. The rule is found (``solvers.seams``, ``solvers.stripes``) or read from the spectrum
(``rings``), and undone. For the rest there is a network that was shown their like. It answers with the image as it
would have it. How much of its change is made is decided place by place: where the change is no more than what the
network also does to clean images, none of it (:func:`gate`). What an image is left with where nothing is found is then
the image itself, to the last bit. Only where hammer-stroke was read, which is everywhere, all of the change is made,
and twice: what the network then takes for the sample tells more surely what the noise is.
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
from dps_jax.pipelines.rings import Rings, read_rings
from dps_jax.pipelines.tiling import mirrored, plan_tiles
from dps_jax.solvers.hammer_stroke import remove_hammer_stroke
from dps_jax.solvers.ringing import RADII, remove_ringing
from dps_jax.solvers.seams import BELIEVED as SEAMS_BELIEVED
from dps_jax.solvers.seams import find_seams, fit_tiles, remove_seams
from dps_jax.solvers.stripes import find_waves
from dps_jax.solvers.waves import Wave, remove_waves
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
# What is read from the rings of the spectrum is believed from these logarithms on: of a factor of 1.35 in amplitude,
# and of one of 2 in the power of what is dark.
RAISED, EXCESS = 0.3, 0.7
# Share of the network's second change that is made after hammer-stroke. It and what it changes err in part by chance:
# between the two is nearer than either. Set on seeds 7200 to 7219, which are not scored.
_AGAIN = 0.75
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


def remove_artefacts(
    image: np.ndarray, network: Network, *, abbe_px: float, reader: Network | None = None, tile_px: int = 512
) -> Cleaned:
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
    reader
        From ``load_network(task="rings")``; without it ringing and hammer-stroke are left to the network.
    tile_px
        Side of the tiles that the network sees at once, without their overlap.

    Returns
    -------
    The image, with as many photons as before, and how much was changed. The light of what the network removes is
    spread evenly over where it was, or after hammer-stroke over the image: a level far below that of an artefact,
    above what was there. One exception: where seams or hammer-stroke are removed from an image whose negative values
    had been set to 0, the light that this had added goes too, and a note says how much.

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
    if not brightness(np.maximum(image, 0), abbe_px=abbe_px) > 0:
        return Cleaned(image.copy(), 0.0, ("the image holds no light; it is left as it is",))
    factor = network.abbe_px / abbe_px
    if abs(factor - 1) <= TOLERANCE:
        factor = 1.0
    whole, about = _remove_what_is_everywhere(image, abbe_px=abbe_px)

    def seen(image: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        unit = unit_of(image, abbe_px=abbe_px)
        plane = _resampled(image, factor, _scaled(image.shape, factor)) / np.float32(unit)
        return unit, plane, run_network(plane, network, tile_px=tile_px)

    unit, plane, answer = seen(whole)

    def changed(image: np.ndarray, share: np.ndarray) -> np.ndarray:
        made, where = (_resampled(i, 1 / factor, image.shape) for i in (share * (answer - plane), share))
        return np.asarray(image + np.float32(unit) * _without_sum(made, where))

    noise, noisy = False, whole
    if reader is not None:
        rings = read_rings(plane, answer, reader, abbe_px=abbe_px * factor)
        even, found, noise = _remove_rings(whole, rings, abbe_px=abbe_px)
        if found:
            whole, about = even, (*about, *found)
            unit, plane, answer = seen(whole)
    if noise:
        # It is everywhere: there is no place that the network should leave alone.
        sample = changed(whole, np.ones_like(plane))
        whole = remove_hammer_stroke(noisy, rings.excess, abbe_px=abbe_px, structure=sample)
        unit, plane, answer = seen(whole)
        out = changed(whole, np.full_like(plane, _AGAIN))
    else:
        out = changed(whole, gate(answer - plane, plane, abbe_px=network.abbe_px))
    strength = float(np.linalg.norm(out - image) / np.linalg.norm(image))
    return Cleaned(out, strength, (*about, *_light_lost(image, out), *_notes(strength, factor)))


def _remove_what_is_everywhere(image: np.ndarray, *, abbe_px: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """Undo seams and waves, which are the same all over the image."""
    about: list[str] = []
    seams = find_seams(image, abbe_px=abbe_px)
    if seams is not None:
        image = remove_seams(image, seams, fit_tiles(image, seams, abbe_px=abbe_px))
        about.append(
            f"gains and offsets of tiles of {seams.side_px:.1f} px were evened out (evidence {seams.evidence:.0f} "
            f"where {SEAMS_BELIEVED:.1f} is believed)"
        )
    waves = find_waves(image, abbe_px=abbe_px)
    return remove_waves(image, waves), (*about, *map(_about, waves))


def _remove_rings(
    image: np.ndarray, rings: Rings, *, abbe_px: float
) -> tuple[np.ndarray, tuple[str, ...], bool]:
    """Undo ringing, or take hammer-stroke off, whichever is the plainer, where one of them is plain enough.

    The last of the answers is whether hammer-stroke was taken off.
    """
    raised, excess = rings.raised.max() / RAISED, rings.excess.max() / EXCESS
    if max(raised, excess) < 1:
        return image, (), False
    if raised >= excess:
        at, most = RADII[rings.raised.argmax()], np.exp(rings.raised.max())
        said = (
            f"ringing was undone: frequencies about {at:.2f} per Abbe period had been raised {most:.1f} times"
        )
        return remove_ringing(image, rings.raised, abbe_px=abbe_px), (said,), False
    at, most = RADII[rings.excess.argmax()], np.exp(rings.excess.max())
    said = f"noise of {at:.2f} cycles per Abbe period was taken off, {most:.0f} times the power of what else is dark"
    return remove_hammer_stroke(image, rings.excess, abbe_px=abbe_px), (said,), True


def unit_of(image: np.ndarray, *, abbe_px: float) -> float:
    """Return by what an image ``(y, x)`` is divided to be as bright as those that the network was trained on."""
    return _UNIT * brightness(np.maximum(image, 0).astype(np.float32), abbe_px=abbe_px)


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
        f"stripes of {wave.period_px:.2f} px, {100 * wave.depth:.0f} % deep, were taken out "
        f"(evidence {wave.evidence:.0f})"
    )


def _light_lost(image: np.ndarray, out: np.ndarray) -> tuple[str, ...]:
    before, after = float(np.sum(image, dtype=float)), float(np.sum(out, dtype=float))
    if abs(after - before) <= 1e-4 * abs(before):
        return ()
    return (f"the light is {100 * (after / before - 1):+.1f} %: setting negative values to 0 had changed it",)


def _notes(strength: float, factor: float) -> tuple[str, ...]:
    found = (
        "no artefact found; the image is left as it is"
        if strength == 0
        else f"{100 * strength:.1f} % of the image was taken for artefacts and changed"
    )
    if factor == 1:
        return (found,)
    return (found, f"artefacts were looked for on pixels {1 / factor:.2f} times as long as the image's")
