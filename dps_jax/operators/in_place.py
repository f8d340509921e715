"""Pointwise maps written over one of their arguments, so that XLA's FFTs keep their threads on the CPU.

XLA divides a large pointwise map among threads and goes on, on the thread that ends last; an FFT that is called from
such a thread has no other to help it. Maps that it may have to write in place it does not divide. They take as long as
memory does, which one thread fills; the FFTs between them take several threads then, and half the time on two.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from dps_jax.typing import Array

_ROWS = -2


def in_place(function: Callable[..., Array], target: Array, *others: Array | float) -> Array:
    """Return ``function(target, *others)``, pointwise, of ``target``'s shape and type.

    Parameters
    ----------
    function
        Sees two axes or more, of fewer rows than there are.
    target
        ``(..., y, x)``.
    others
        Of as many axes and ``y`` or 1 rows, or numbers.
    """

    def mapped(*cut: Array | float) -> Array:
        return function(*cut).astype(target.dtype)

    rows = target.shape[_ROWS]
    # Two strips need two halves; one is a map as any other. Outside of a program no map leaves its thread.
    if rows < 2 or rows % 2 or not isinstance(target, jax.core.Tracer):
        return mapped(target, *others)

    def strips(target: Array, *others: Array) -> Array:
        def strip(i: Array, target: Array) -> Array:
            start, length = i * (rows // 2), rows // 2
            cut = [
                lax.dynamic_slice_in_dim(a, start, length, axis=a.ndim + _ROWS)
                if a.ndim >= 2 and a.shape[_ROWS] == rows
                else a
                for a in (target, *others)
            ]
            return lax.dynamic_update_slice_in_dim(target, mapped(*cut), start, axis=target.ndim + _ROWS)

        return lax.fori_loop(0, 2, strip, target)

    return lax.platform_dependent(target, *map(jnp.asarray, others), cpu=strips, default=mapped)
