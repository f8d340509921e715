"""Richardson-Lucy deconvolution (Richardson 1972, Lucy 1974) on a grid finer than the camera's.

Images are ``(..., y, x)`` in photons (any unit proportional to them), estimates ``(..., s y, s x)``; with a kernel of
three axes, volumes ``(..., z, y, x)`` and ``(..., z, s y, s x)``. Each plain step raises the Poisson likelihood of
``bin_s(x (*) psf) + background`` given the image; without a background it conserves photons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from dps_jax import _checks
from dps_jax.operators.camera_frame import CameraFrame, camera_frame
from dps_jax.operators.convolve import check_psf
from dps_jax.operators.in_place import in_place
from dps_jax.solvers.variation import variation_divergence
from dps_jax.typing import Array

TINY = 1e-12
# Share of an object pixel's light that must fall on measured pixels before they decide alone what it is.
_LEAST_SEEN = 0.02

Step = Callable[[Array], Array]


def fine_shape(image: Array, psf: Array, factor: int) -> tuple[int, ...]:
    """Return the sides of the object of an image ``(..., y, x)`` or ``(..., z, y, x)``."""
    *planes, y, x = image.shape[-jnp.ndim(psf) :]
    return (*planes, factor * y, factor * x)


def flat_level(image: Array, factor: int, axes: tuple[int, ...], measured: Array | None = None) -> Array:
    """Return the level of a flat start, the image's own: no structure is put in that the data did not ask for."""
    where = None if measured is None else jnp.broadcast_to(measured > 0, image.shape)
    mean = jnp.maximum(jnp.mean(image, axis=axes, keepdims=True, where=where), TINY)
    return mean / factor**2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RichardsonLucyUpdate:
    """The update of an image, on objects in the frame of its camera; see :func:`richardson_lucy_update`."""

    frame: CameraFrame
    counts: Array  # 0 outside, and so is the ratio
    extra: Array
    floor: Array
    inverse_weight: Array  # 0 outside, and so is the estimate
    unasked: Array | None  # share of the weight that no measured pixel speaks for
    tv_weight: Array | None

    def __call__(self, x: Array) -> Array:
        """Take one step from an estimate in the frame."""
        x = self.frame.continued(x)
        ratio = in_place(_ratio, self.frame.forward(x), self.counts, self.extra, self.floor)
        correction = self.frame.backward(ratio)
        if self.unasked is not None:
            correction = correction + self.unasked
        x = in_place(_corrected, x, correction, self.inverse_weight)
        if self.tv_weight is not None:
            # Below 1 / (2 axes) the denominator stays positive: the divergence is at most 2 per axis.
            divergence = variation_divergence(self.frame.inside(x), axes=len(self.frame.shape))
            x = x * self.frame.open(1 / jnp.maximum(1.0 - self.tv_weight * divergence, 0.1))
        return x


def _ratio(predicted: Array, counts: Array, extra: Array, floor: Array) -> Array:
    return counts / jnp.maximum(predicted + extra, floor)


def _corrected(x: Array, correction: Array, inverse_weight: Array) -> Array:
    return jnp.maximum(x * correction * inverse_weight, 0.0)


def richardson_lucy_update(
    image: Array,
    psf: Array,
    *,
    factor: int = 2,
    boundary: str = "reflect",
    background: float | Array = 0.0,
    tv_weight: float = 0.0,
    measured: Array | None = None,
) -> tuple[RichardsonLucyUpdate, Array]:
    """Return what the steps of an image share, and the flat start, to be given to :func:`iterate`.

    Both are in the frame of the image's camera: ``update.frame.inside(x)`` is the estimate. Parameters and errors are
    those of :func:`richardson_lucy`.
    """
    _checks.non_negative("tv_weight", tv_weight)
    check_psf(psf)
    axes = tuple(range(-jnp.ndim(psf), 0))
    sides = jnp.shape(image)[-jnp.ndim(psf) :]
    if measured is not None and measured.shape != sides:
        raise ValueError(f"expected measured of the image's sides {sides}, got shape {measured.shape}")
    level = flat_level(image, factor, axes, measured)
    image = jnp.maximum(jnp.asarray(image, jnp.result_type(image, jnp.float32)), 0.0)
    frame = camera_frame(psf, fine_shape(image, psf, factor), factor=factor, boundary=boundary)
    seen = jnp.ones(sides, image.dtype) if measured is None else measured.astype(image.dtype)
    seen = seen.reshape((1,) * (image.ndim - len(sides)) + sides)
    light_seen = frame.inside(frame.backward(frame.place(seen)))
    # Light that hardly reaches a measured pixel is left as it is: a ratio of roundings must not drive it.
    weight = jnp.maximum(light_seen, TINY if measured is None else _LEAST_SEEN)
    update = RichardsonLucyUpdate(
        frame,
        counts=frame.place(image if measured is None else seen * image),
        extra=jnp.asarray(background, image.dtype)
        if jnp.ndim(background) == 0
        else frame.place(jnp.broadcast_to(background, image.shape)),
        # Where next to nothing is predicted, a photon must not count for more than a million of the image's mean.
        floor=1e-6 * jnp.mean(image, axis=axes, keepdims=True) + TINY,
        inverse_weight=frame.open(1 / weight),
        unasked=None if measured is None else frame.open(weight - light_seen),
        tv_weight=jnp.asarray(tv_weight, image.dtype) if tv_weight > 0 else None,
    )
    return update, level * (update.inverse_weight > 0)


def make_richardson_lucy_step(
    image: Array,
    psf: Array,
    *,
    factor: int = 2,
    boundary: str = "reflect",
    background: float | Array = 0.0,
    tv_weight: float = 0.0,
    measured: Array | None = None,
) -> Step:
    """Return the update ``x -> x / (1 - w div(grad x / |grad x|)) * A^T(m y / (A x + b)) / A^T m`` of an image.

    Transforms that every step shares are computed here, once; see :func:`richardson_lucy` for the parameters.
    """
    update, _ = richardson_lucy_update(
        image,
        psf,
        factor=factor,
        boundary=boundary,
        background=background,
        tv_weight=tv_weight,
        measured=measured,
    )
    return lambda x: update.frame.inside(update(update.frame.open(x)))


def richardson_lucy_step(
    estimate: Array, image: Array, psf: Array, *, factor: int = 2, boundary: str = "reflect"
) -> Array:
    """One multiplicative update ``x * A^T(y / A x) / A^T 1``, with A the camera of ``operators.forward``.

    Parameters
    ----------
    estimate
        Positive ``(..., factor y, factor x)``.
    image
        Measured ``(..., y, x)``; negative values count as 0.
    psf
        Kernel on the fine grid, odd sides.
    factor, boundary
        As :func:`dps_jax.operators.camera_image`.
    """
    return make_richardson_lucy_step(image, psf, factor=factor, boundary=boundary)(estimate)


def richardson_lucy(
    image: Array,
    psf: Array,
    *,
    iterations: int | Array = 20,
    factor: int = 2,
    boundary: str = "reflect",
    background: float | Array = 0.0,
    tv_weight: float = 0.0,
    accelerated: bool = False,
    measured: Array | None = None,
) -> Array:
    """Run ``iterations`` steps from a flat start.

    Parameters
    ----------
    image
        ``(..., y, x)``, or a volume ``(..., z, y, x)`` for a kernel of three axes; negative values count as 0.
    psf
        Kernel ``(ky, kx)`` or ``(kz, ky, kx)`` on the grid of the result, odd sides, unit sum.
    iterations
        Number of steps: more sharpen more and amplify noise more.
    factor
        Result pixels per image pixel along y and x.
    boundary
        What lies outside the result; ``"reflect"`` keeps bright borders from ringing.
    background
        Light per image pixel that the image holds besides the object's; 0 where it was removed.
    tv_weight
        Weight of the total variation (Dey et al. 2006), 0.002 to 0.05: less noise, flatter areas.
    accelerated
        Extrapolate along the last change, as far as two successive steps agree in direction (Biggs and Andrews
        1997): some three times fewer steps.
    measured
        ``(y, x)`` or ``(z, y, x)``, 1 where ``image`` was measured and 0 where it was not: nothing is asked of the
        object there but what the other pixels say (Bertero and Boccacci 2005). By default all of it was.

    Returns
    -------
    ``(..., factor y, factor x)``, not negative; with the photons of ``image`` where that is not negative,
    ``background`` and ``tv_weight`` are 0 and all was measured.

    Raises
    ------
    ValueError
        If ``iterations`` is below 1, ``tv_weight`` negative, the kernel has an even side, NaN, negative values or
        another sum than 1, or ``measured`` other sides than the image.
    """
    if not isinstance(iterations, jax.Array):  # a traced count is as good: the loop needs no static one
        _checks.positive_integer("iterations", iterations)
    update, start = richardson_lucy_update(
        image,
        psf,
        factor=factor,
        boundary=boundary,
        background=background,
        tv_weight=tv_weight,
        measured=measured,
    )
    axes = tuple(range(-jnp.ndim(psf), 0))
    x = iterate(update, start, axes, iterations=iterations, accelerated=accelerated)
    return update.frame.inside(x)


def iterate(
    step: Step, start: Array, axes: tuple[int, ...], *, iterations: int | Array, accelerated: bool = False
) -> Array:
    """Take steps from a start, on each image over ``axes`` by itself.

    ``accelerated`` extrapolates before every step by the share of the last one that the one before would have
    foretold (Biggs and Andrews 1997).
    """
    if not accelerated:
        return jax.lax.fori_loop(0, iterations, lambda _, x: step(x), start)
    none = jnp.zeros_like(start)
    carry = (start, start, none, none)
    return jax.lax.fori_loop(0, iterations, lambda _, c: extrapolated(step, c, axes), carry)[0]


def extrapolated(step: Step, carry: tuple[Array, ...], axes: tuple[int, ...]) -> tuple[Array, ...]:
    """Take one step from (estimate, the one before, its change by the last step, by the one before)."""
    x, before, gradient, gradient_before = carry
    agreement = jnp.sum(gradient * gradient_before, axis=axes, keepdims=True)
    size = jnp.sum(gradient_before**2, axis=axes, keepdims=True)
    share = jnp.clip(agreement / jnp.maximum(size, TINY), 0.0, 1.0)
    ahead = jnp.maximum(x + share * (x - before), 0.0)
    new = step(ahead)
    return new, x, new - ahead, gradient
