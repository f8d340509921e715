"""Sparse-Hessian deconvolution (Zhao et al. 2022): continuity and sparsity first, then Richardson-Lucy.

Images are ``(..., y, x)``; movies or volumes ``(..., t, y, x)`` where continuity along the third axis is asked for.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.solvers.richardson_lucy import richardson_lucy
from dps_jax.typing import Array


def sparse_hessian(
    image: Array,
    psf: Array,
    *,
    fidelity: float = 150.0,
    sparsity: float = 10.0,
    third_axis: float = 0.0,
    iterations: int = 100,
    deconvolution_iterations: int = 10,
) -> Array:
    """Denoise under continuity and sparsity (:func:`sparse_continuous`), then deconvolve by accelerated RL.

    Parameters
    ----------
    image
        ``(..., y, x)``, or ``(..., t, y, x)`` with ``third_axis`` above 0; background removed.
    psf
        Kernel ``(ky, kx)`` on the image's grid, odd sides, unit sum.
    fidelity, sparsity, third_axis, iterations
        As :func:`sparse_continuous`.
    deconvolution_iterations
        Accelerated Richardson-Lucy steps.

    Returns
    -------
    Array of the shape and with the sum of ``image``, not negative.

    Raises
    ------
    ValueError
        For weights or iterations out of range, or a kernel with an even side.
    """
    clean = sparse_continuous(
        image, fidelity=fidelity, sparsity=sparsity, third_axis=third_axis, iterations=iterations
    )
    sharp = richardson_lucy(clean, psf, iterations=deconvolution_iterations, factor=1, accelerated=True)
    # Sparsity takes light from everywhere; what is left is brought back to the light that was measured.
    total = jnp.sum(jnp.maximum(image, 0.0), axis=(-2, -1), keepdims=True)
    return sharp * (total / jnp.maximum(jnp.sum(sharp, axis=(-2, -1), keepdims=True), 1e-12))


def sparse_continuous(
    image: Array,
    *,
    fidelity: float = 150.0,
    sparsity: float = 10.0,
    third_axis: float = 0.0,
    iterations: int = 100,
) -> Array:
    """Minimise ``fidelity/2 |f - x|^2 + R_H(x) + sparsity |x|_1`` by split Bregman, for a maximum of 1.

    ``R_H = sum |x_xx| + |x_yy| + 2 |x_xy|`` and, with ``third_axis = s`` above 0,
    ``+ s |x_tt| + 2 sqrt(s) (|x_xt| + |x_yt|)``. Source: Zhao et al. 2022; the splitting is that of Goldstein and
    Osher 2009.

    Parameters
    ----------
    image
        ``(..., y, x)`` or, with ``third_axis`` above 0, ``(..., t, y, x)``; any unit, since it is divided by its
        maximum.
    fidelity, sparsity
        Weights for an image whose maximum is 1.
    third_axis
        Weight of the continuity in time or z.
    iterations
        Split-Bregman steps.

    Returns
    -------
    Array of the shape and unit of ``image``, not negative.

    Raises
    ------
    ValueError
        For weights or iterations out of range, or too few axes.
    """
    _checks.at_least_2d("image", image)
    _checks.positive("fidelity", fidelity)
    _checks.non_negative("sparsity", sparsity)
    _checks.non_negative("third_axis", third_axis)
    _checks.positive_integer("iterations", iterations)
    axes = 3 if third_axis > 0 else 2
    if jnp.ndim(image) < axes:
        raise ValueError(f"expected a stack (..., t, y, x) with third_axis, got shape {jnp.shape(image)}")
    image = jnp.asarray(image, jnp.result_type(image, jnp.float32))
    # A frame without anything above 0 has no maximum to divide by, and comes out as nothing.
    top = jnp.max(image, axis=tuple(range(-axes, 0)), keepdims=True)
    unit = jnp.where(top > 0, top, 1.0)
    # A border of mirror images: differences are periodic, and opposite sides have nothing to do with each other.
    margin = [(0, 0)] * (image.ndim - axes) + [(min(8, n), min(8, n)) for n in image.shape[-axes:]]
    padded = jnp.pad(image / unit, margin, mode="symmetric")
    solved = _split_bregman(padded, fidelity, _penalties(axes, sparsity, third_axis), iterations)
    inner = tuple(slice(a, n - b) for (a, b), n in zip(margin, padded.shape, strict=True))
    return jnp.maximum(solved[inner], 0.0) * unit


Difference = tuple[int, ...]


def _penalties(axes: int, sparsity: float, third: float) -> list[tuple[float, Difference]]:
    """Return (weight, axes along which to take differences) of every absolute value in the objective."""
    terms: list[tuple[float, Difference]] = [(1.0, (-1, -1)), (1.0, (-2, -2)), (2.0, (-1, -2))]
    if axes == 3:
        terms += [(third, (-3, -3)), (2 * third**0.5, (-1, -3)), (2 * third**0.5, (-2, -3))]
    return terms + ([(sparsity, ())] if sparsity > 0 else [])


def _differ(image: Array, along: Difference, *, back: bool = False) -> Array:
    """Take periodic differences: central where an axis comes twice, forward otherwise; ``back`` is the adjoint."""
    if len(along) == 2 and along[0] == along[1]:
        return jnp.roll(image, 1, along[0]) - 2 * image + jnp.roll(image, -1, along[0])
    for axis in along:
        image = jnp.roll(image, 1 if back else -1, axis) - image
    return image


def _response(along: Difference, sides: tuple[int, ...]) -> np.ndarray:
    """Return ``|D|^2`` of :func:`_differ` at the frequencies of ``rfftn``."""
    power = np.ones((1,) * len(sides))
    for axis in along:
        n = sides[axis]
        frequency = np.fft.rfftfreq(n) if axis == -1 else np.fft.fftfreq(n)
        shape = [1] * len(sides)
        shape[axis] = len(frequency)
        power = power * (2 - 2 * np.cos(2 * np.pi * frequency)).reshape(shape)
    return power


def _split_bregman(
    image: Array, fidelity: float, penalties: list[tuple[float, Difference]], iterations: int
) -> Array:
    # With the weight of the splitting at 1, as published, an absolute value of weight w is a threshold of 1 on w D x.
    axes = 3 if any(-3 in along for _, along in penalties) else 2
    over = tuple(range(-axes, 0))
    sides = image.shape[-axes:]
    power = fidelity + sum(w**2 * _response(along, sides) for w, along in penalties)
    inverse = jnp.asarray(1 / power, image.dtype)
    inverse = inverse.reshape((1,) * (image.ndim - axes) + inverse.shape)

    def body(
        index: int, carry: tuple[Array, list[Array], list[Array]]
    ) -> tuple[Array, list[Array], list[Array]]:
        _, split, bregman = carry
        right = fidelity * image
        for (w, along), d, b in zip(penalties, split, bregman, strict=True):
            right = right + w * _differ(d - b, along, back=True)
        x = jnp.fft.irfftn(jnp.fft.rfftn(right, axes=over) * inverse, s=sides, axes=over)
        split, new = [], []
        for (w, along), b in zip(penalties, bregman, strict=True):
            wanted = w * _differ(x, along) + b
            d = jnp.sign(wanted) * jnp.maximum(jnp.abs(wanted) - 1.0, 0.0)
            split.append(d)
            new.append(wanted - d)
        return x, split, new

    none = [jnp.zeros_like(image) for _ in penalties]
    return jax.lax.fori_loop(0, iterations, body, (image, none, none))[0]
