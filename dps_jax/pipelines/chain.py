"""The chain around the extending network: remove artefacts, denoise, take the background off, extend.

``auto`` measures before it acts and says what it found. Denoising first helps the extending network only where noise
makes most of an image's contrast (it was trained to take noise as it comes); there the result is a mean of the
restorations of the image as it is and denoised, whose errors differ. Artefacts of reconstruction are looked for in
images that were reconstructed, which a modulation factor above 1 says.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from dps_jax import _checks
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines import photometry
from dps_jax.pipelines.artefacts import Cleaned, remove_artefacts
from dps_jax.pipelines.denoise import denoise, noise_share
from dps_jax.pipelines.restore import Restored, restore
from dps_jax.weights import Network, load_network

DENOISE = ("off", "auto", "strong")
ARTEFACTS = ("off", "auto")

# On scenes at 3 to 30 photons (seeds 3000 to 3011) denoising first gained from a noise share of about 0.55 on, and a
# little over two thirds was the best weight where noise was nearly all.
_NOISE_FROM, _NOISE_ALL, _LARGEST_WEIGHT = 0.5, 0.9, 0.7
# A reconstruction has more resolution than its optics alone.
_RECONSTRUCTED = 1.2


@dataclass(frozen=True, eq=False)
class Chained:
    """A restored image, what was decided and why, and the images in between by name, in the input's pixels and unit."""

    restored: Restored
    decisions: tuple[str, ...]
    notes: tuple[str, ...]
    intermediates: dict[str, np.ndarray]


def run_chain(
    image: np.ndarray,
    system: OpticalSystem,
    network: Network,
    *,
    denoising: str = "auto",
    artefacts: str = "off",
    gain: float | None = None,
    offset: float | None = None,
    background: float | None = None,
    **options: Any,
) -> Chained:
    """Restore an image with the steps before it that it needs.

    Parameters
    ----------
    image, system, network
        As :func:`dps_jax.pipelines.restore.restore`.
    denoising
        ``"off"``, ``"auto"`` or ``"strong"``: the denoised image takes the place of the image.
    artefacts
        ``"off"`` or ``"auto"``: look for those of reconstructions and remove them. It also changes one clean image in
        three to five, by a few percent (``experiments/train_artefacts.py``): for images in which artefacts are seen.
    gain, offset, background
        As :func:`dps_jax.pipelines.restore.restore`; the noise follows from the first two.
    **options
        The other options of that function.

    Raises
    ------
    ValueError
        As that function, or for an unknown choice.
    """
    _checks.one_of("denoising", denoising, DENOISE)
    _checks.one_of("artefacts", artefacts, ARTEFACTS)
    image = np.asarray(image)
    common: dict[str, Any] = {"gain": gain, "offset": offset, "background": background, **options}
    decisions: list[str] = []
    notes: list[str] = []
    between: dict[str, np.ndarray] = {}
    clean, told = _without_artefacts(image, system, artefacts, background)
    decisions.append(told)
    if clean is not None:
        image = between["without_artefacts"] = clean
    weight, told = denoising_weight(image, system, denoising, gain, offset)
    decisions.append(told)
    if weight == 0:
        return Chained(restore(image, system, network, **common), _said(decisions), (), between)
    quiet = denoise(
        image,
        load_network(task="denoise"),
        abbe_px=float(system.abbe_px),
        gain=gain,
        offset=offset,
        background=background,
    )
    between["denoised"] = quiet.image
    notes.extend(f"denoising: {note}" for note in quiet.notes)
    # The level is one measurement for both: that of the image with less noise.
    common["background"] = quiet.background if background is None else background
    result = restore(quiet.image, system, network, **common)
    if weight < 1:
        raw = restore(image, system, network, **common)
        mixed = weight * result.image + (1 - weight) * raw.image
        result = dataclasses.replace(raw, image=mixed.astype(np.float32))
        notes.append("the checks are those of the restoration of the image as it is, which is the other part")
    return Chained(result, _said(decisions), tuple(notes), between)


def _said(decisions: list[str]) -> tuple[str, ...]:
    """Leave out what was not asked for."""
    return tuple(filter(None, decisions))


def denoising_weight(
    image: np.ndarray, system: OpticalSystem, denoising: str, gain: float | None, offset: float | None
) -> tuple[float, str]:
    """Return the weight of the denoised image in the result, and why."""
    if denoising == "off":
        return 0.0, ""
    if denoising == "strong":
        return 1.0, "denoise strong: as asked, the denoised image alone is restored"
    if float(system.modulation) >= _RECONSTRUCTED:
        return 0.0, "denoise off: the noise of a reconstruction is no camera's; denoise what it was made from"
    if min(image.shape[-2:]) < 16:
        return 0.0, "denoise off: the image is too small to measure its noise"
    try:
        share = noise_share(image, abbe_px=float(system.abbe_px), gain=gain, offset=offset)
    except ValueError as problem:
        return 0.0, f"denoise off: its noise cannot be measured ({problem})"
    weight = _LARGEST_WEIGHT * float(np.clip((share - _NOISE_FROM) / (_NOISE_ALL - _NOISE_FROM), 0.0, 1.0))
    measured = f"noise makes {share:.0%} of the contrast that the optics pass"
    if weight == 0:
        return 0.0, f"denoise off: {measured}, and up to {_NOISE_FROM:.0%} the network does better alone"
    stack = image if image.ndim == 3 else image[None]
    if photometry.weigh_light(stack, abbe_px=float(system.abbe_px), gain=gain, offset=offset).gain is None:
        return 0.0, f"denoise off: {measured}, but the gain is not known; give --gain and --offset"
    return weight, f"denoise on: {measured}; the restoration of the denoised image counts for {weight:.0%}"


def _what_was_done(cleaned: list[Cleaned]) -> str:
    """Return the notes of the first changed plane but for how much of it was changed, which is said of all."""
    first = next(c for c in cleaned if c.strength > 0)
    done = [note for note in first.notes if "was taken for artefacts" not in note]
    plane = "" if len(cleaned) == 1 else f" (in plane {cleaned.index(first) + 1})"
    return "".join(f"; {note}" for note in done) + (plane if done else "")


def _without_artefacts(
    image: np.ndarray, system: OpticalSystem, artefacts: str, background: float | None
) -> tuple[np.ndarray | None, str]:
    """Return the image without artefacts of reconstruction, None where there are none to speak of, and why."""
    if artefacts == "off":
        return None, ""
    if float(system.modulation) < _RECONSTRUCTED:
        return None, "artefacts off: an image of a modulation factor of 1 was not reconstructed"
    stack = image if image.ndim == 3 else image[None]
    abbe_px = float(system.abbe_px)
    level = photometry.background_level(stack, abbe_px=abbe_px) if background is None else background
    network, reader = load_network(task="artefacts"), load_network(task="rings")
    # Artefacts follow the period of the optics alone, before the reconstruction.
    before = abbe_px * float(system.modulation)
    cleaned = [remove_artefacts(f - level, network, abbe_px=before, reader=reader) for f in stack]
    strength = float(np.mean([c.strength for c in cleaned]))
    if strength == 0:
        return None, "artefacts off: none was found"
    out = np.stack([c.image for c in cleaned]) + np.float32(level)
    return (
        out if image.ndim == 3 else out[0],
        f"artefacts on: {strength:.1%} of the image was taken for artefacts and changed{_what_was_done(cleaned)}",
    )
