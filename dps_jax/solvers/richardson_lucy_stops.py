"""Where Richardson-Lucy stops: where what remains is noise, or, as a baseline only, where one who knows the truth says.

Images and estimates as in ``solvers.richardson_lucy``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dps_jax import _checks
from dps_jax.operators.forward import camera
from dps_jax.operators.sampling import bin_area_adjoint
from dps_jax.solvers.richardson_lucy import (
    TINY,
    extrapolated,
    fine_shape,
    flat_level,
    make_richardson_lucy_step,
)
from dps_jax.typing import Array


def _start(image: Array, factor: int, axes: tuple[int, ...], *, measured: Array | None = None) -> Array:
    level = flat_level(image, factor, axes, measured)
    return bin_area_adjoint(jnp.broadcast_to(level, image.shape), factor)


def poisson_deviance(image: Array, predicted: Array, *, axes: int = 2) -> Array:
    """Return the mean Poisson deviance ``2 (y log(y / f) + f - y)`` per pixel over the last ``axes`` axes.

    It is about 1 where ``predicted`` is the expectation of the counts ``image``, from a few photons per pixel on; below
    one photon it is less (0.5 at 0.1 photons).
    """
    image, predicted = jnp.maximum(image, 0.0), jnp.maximum(predicted, TINY)
    log = jnp.where(image > 0, image * jnp.log(jnp.maximum(image, TINY) / predicted), 0.0)
    return 2 * jnp.mean(log + predicted - image, axis=tuple(range(-axes, 0)))


def richardson_lucy_until_explained(
    image: Array,
    psf: Array,
    *,
    iterations: int = 500,
    factor: int = 2,
    boundary: str = "reflect",
    background: float | Array = 0.0,
    accelerated: bool = False,
    discrepancy: float = 1.0,
) -> tuple[Array, Array]:
    """Stop at the first step that explains the photons as well as the truth would: no truth is needed.

    The mean deviance of the counts falls with every step; where it reaches 1 what remains is photon noise, and to
    go on is to fit it (Bertero et al. 2010). That holds from a few photons per pixel on, background included; of dimmer
    images the deviance is less than 1 from the start, and the stop comes too early.

    Parameters
    ----------
    image
        Counts in photons ``(y, x)`` or ``(z, y, x)``, background not removed: only then is their noise known.
    iterations
        Most steps to take.
    background
        Photons per pixel besides the object's.
    discrepancy
        Deviance to stop at.
    psf, factor, boundary, accelerated
        As :func:`richardson_lucy`.

    Returns
    -------
    ``(estimate, steps taken)``.

    Raises
    ------
    ValueError
        As :func:`richardson_lucy`; for a batch of images.
    """
    _checks.positive_integer("iterations", iterations)
    _checks.positive("discrepancy", discrepancy)
    if jnp.ndim(image) != jnp.ndim(psf):
        raise ValueError(
            f"expected one image of {jnp.ndim(psf)} axes, as the kernel, got shape {image.shape}"
        )
    step = make_richardson_lucy_step(image, psf, factor=factor, boundary=boundary, background=background)
    forward, _ = camera(psf, fine_shape(image, psf, factor), factor=factor, boundary=boundary)
    axes = tuple(range(-jnp.ndim(psf), 0))
    start = _start(jnp.maximum(image - background, 0.0), factor, axes)

    def unexplained(carry: Any) -> Array:
        count, x, *_ = carry
        deviance = poisson_deviance(image, forward(x) + background, axes=jnp.ndim(psf))
        return (count < iterations) & (deviance > discrepancy)

    def body(carry: Any) -> Any:
        count, x, *rest = carry
        if accelerated:
            return count + 1, *extrapolated(step, (x, *rest), axes)
        return count + 1, step(x), *rest

    none = jnp.zeros_like(start)
    first = (jnp.zeros((), jnp.int32), start, start, none, none)
    count, x, *_ = jax.lax.while_loop(unexplained, body, first)
    return x, count


def richardson_lucy_oracle(
    image: Array,
    psf: Array,
    score: Callable[[Array], Array],
    *,
    iterations: int = 500,
    patience: int = 100,
    factor: int = 2,
    boundary: str = "reflect",
    measured: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Run Richardson-Lucy and keep the iterate that a judge who knows the truth likes best.

    Nobody has such a judge for a real image: this is the strongest baseline, not a method.

    Parameters
    ----------
    score
        Maps an estimate ``(..., factor y, factor x)`` to one number per image; the largest wins.
    patience
        Steps without a better score, for any image, after which no better one is looked for: sharpening first
        wins and then loses to noise, once.
    measured
        As :func:`richardson_lucy`.

    Returns
    -------
    ``(best estimate, best iteration, best score)``, the last two with the leading axes of ``image``.
    """
    _checks.positive_integer("iterations", iterations)
    _checks.positive_integer("patience", patience)
    step = make_richardson_lucy_step(image, psf, factor=factor, boundary=boundary, measured=measured)
    start = _start(image, factor, (-2, -1), measured=measured)
    first = (
        jnp.zeros((), jnp.int32),
        start,
        start,
        jnp.zeros(image.shape[:-2], jnp.int32),
        jnp.full(image.shape[:-2], -jnp.inf),
    )

    def searching(carry: Any) -> Array:
        i, _, _, at, _ = carry
        return (i < iterations) & (i < jnp.max(at) + patience)

    def body(carry: Any) -> Any:
        i, x, best, at, top = carry
        x = step(x)
        value = score(x)
        better = value > top
        best = jnp.where(better[..., None, None], x, best)
        return i + 1, x, best, jnp.where(better, i + 1, at), jnp.maximum(value, top)

    _, _, best, at, top = jax.lax.while_loop(searching, body, first)
    return best, at, top
