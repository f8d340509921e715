"""Are these raw SIM frames, and in this order? Each refusal says what was measured and what was expected."""

from __future__ import annotations

import numpy as np

from dps_jax.io import UserError
from dps_jax.optics.illumination import Illumination
from dps_jax.optics.otf import RadialOtf
from dps_jax.solvers.sim_estimation import LEAST_SIGNIFICANCE, Stripes, estimate_illumination

# Frames whose brightest pixels are cut off have stripes that are no sines.
_SATURATED_SHARE = 0.005
# Lamps flicker by a few percent; frames that differ by more are not of one exposure series.
_UNEVEN, _USELESS = 0.1, 0.5
# Angles of a SIM are 60 degrees apart, or at least 30; nearer ones are one direction seen twice.
_SAME_DIRECTION = np.radians(10)
# The wrong order leaves a remnant of the stripes in each "angle"; the right one has at least so much more.
_MORE = 1.5


def check_frames(frames: np.ndarray) -> tuple[str, ...]:
    """Return notes on frames ``(plane, angle, phase, y, x)`` of uneven brightness.

    Raises
    ------
    UserError
        Where a frame is saturated, dark, or more than half off the brightness of the others.
    """
    _refuse_saturated(frames)
    if all(np.array_equal(frames[0, 0, 0], f) for f in frames[0].reshape(-1, *frames.shape[-2:])[1:]):
        raise UserError("expected frames that differ by their stripes, got equal ones; check the file.")
    # Light is what is above the darkest hundredth of all pixels, whatever the camera's offset.
    floor = float(np.percentile(frames[:, :, :, ::2, ::2], 1.0))
    means = frames.mean((-2, -1), dtype=np.float64) - floor
    middles = np.median(means, axis=(1, 2), keepdims=True)  # depths of a volume differ by nature
    if not (middles > 0).any():
        raise UserError(
            "expected frames with light in them, got none above the darkest pixels; check the file."
        )
    within = np.where(middles > 0, np.abs(means / np.where(middles > 0, middles, 1.0) - 1), 0.0)
    plane, angle, phase = np.unravel_index(int(np.argmax(within)), within.shape)
    if within.max() > _USELESS:
        raise UserError(
            f"expected frames of one brightness within each plane, got a median of {middles[plane, 0, 0]:.4g} above "
            f"the darkest pixels, but plane {plane + 1}, angle {angle + 1}, phase {phase + 1} has "
            f"{means[plane, angle, phase]:.4g}; a frame is missing, dark or of another kind: check --angles, --phases "
            "and --frame-order."
        )
    if within.max() > _UNEVEN:
        return (
            f"brightness differs by up to {within.max():.0%} between the frames of a plane; it was evened out",
        )
    return ()


def _refuse_saturated(frames: np.ndarray) -> None:
    if frames.dtype.kind not in "iu":
        return
    largest = np.iinfo(frames.dtype).max
    share = (frames == largest).mean((-2, -1))
    if share.max() > _SATURATED_SHARE:
        plane, angle, phase = np.unravel_index(int(np.argmax(share)), share.shape)
        raise UserError(
            f"expected frames that are not saturated, got {share.max():.1%} of the pixels at {largest} in plane "
            f"{plane + 1}, angle {angle + 1}, phase {phase + 1} (at most {_SATURATED_SHARE:.1%}); expose less."
        )


def check_stripes(stripes: Stripes, frames: np.ndarray, otf: RadialOtf, orders: int) -> None:
    """Refuse frames ``(angle, phase, y, x)`` whose stripes do not stand out, or that come in another order.

    Raises
    ------
    UserError
        With the measured significance of each angle.
    """
    parallel = _parallel(stripes.illumination)
    if all(stripes.found) and parallel is None:
        return
    heights = ", ".join(f"{s:.1f}" for s in stripes.significance)
    measured = (
        f"correlation peaks {heights} times their surroundings ({LEAST_SIGNIFICANCE:g} or more are stripes)"
    )
    for swapped in _swapped(frames):
        other = estimate_illumination(swapped, otf, orders=orders)
        better = min(other.significance) > _MORE * min(stripes.significance)
        if all(other.found) and _parallel(other.illumination) is None and (better or parallel is not None):
            raise UserError(
                f"expected stripes in another order of frames, got {measured}; with angle and phase exchanged the "
                f"least is {min(other.significance):.1f}, so choose the other --frame-order."
            )
    if not all(stripes.found):
        raise UserError(
            f"expected stripes in the frames of every angle, got {measured}: no modulation was found; check that these "
            "are raw SIM frames, --na, --wavelength-nm and the pixel size, and --frame-order."
        )
    first, second = parallel or (0, 1)
    raise UserError(
        f"expected stripes of different directions, got the same in angles {first + 1} and {second + 1} ({measured}); "
        "check --frame-order (angle-major, phase-major or angle-plane-phase), --angles and --phases."
    )


def check_planes(stack: np.ndarray, stripes: Stripes, otf: RadialOtf, orders: int) -> None:
    """Refuse planes ``(plane, angle, phase, y, x)`` whose own stripes run another way than those of all planes' mean.

    Raises
    ------
    UserError
        For the first such plane among a few; stripes that do not stand out well say nothing.
    """
    expected = np.asarray(stripes.illumination.angle_rad, np.float64)
    for index in sorted({1, len(stack) // 2, len(stack) - 1} & set(range(1, len(stack)))):
        own = estimate_illumination(stack[index], otf, orders=orders)
        found = np.asarray(own.illumination.angle_rad, np.float64)
        apart = [
            _apart(a, b)
            for a, b, height in zip(found, expected, own.significance, strict=True)
            if height > _MORE * LEAST_SIGNIFICANCE
        ]
        # Another order scrambles them all; a plane out of focus may have a false peak.
        if sum(a > _SAME_DIRECTION for a in apart) > 1:
            raise UserError(
                f"expected the stripes of each angle to run the same way in every plane, but in plane {index + 1} they "
                f"are up to {np.degrees(max(apart)):.0f} degrees off; choose another --frame-order (angle-major, "
                "phase-major or angle-plane-phase)."
            )


def _apart(first: float, second: float) -> float:
    """Return the angle between two directions, which have no sign."""
    return float(abs((first - second + np.pi / 2) % np.pi - np.pi / 2))


def _parallel(illumination: Illumination) -> tuple[int, int] | None:
    """Return the first two angles whose stripes run the same way, if any do."""
    directions = np.asarray(illumination.angle_rad, np.float64)
    for i in range(len(directions)):
        for j in range(i + 1, len(directions)):
            if _apart(directions[i], directions[j]) < _SAME_DIRECTION:
                return i, j
    return None


def _swapped(frames: np.ndarray) -> list[np.ndarray]:
    """Return frames ``(angle, phase, y, x)`` as they are in the other order, whichever this one is."""
    angles, phases, *sides = frames.shape
    as_phase_major = frames.reshape(phases, angles, *sides).swapaxes(0, 1)
    if angles == phases:
        return [as_phase_major]
    return [as_phase_major, frames.swapaxes(0, 1).reshape(angles, phases, *sides)]
