"""Richardson-Lucy as two programs: what its steps share, and its loop, whose FFTs keep their threads that way.

In one program with what comes before, they would lose them; see ``operators.in_place``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from dps_jax import _checks
from dps_jax.operators.convolve import check_psf
from dps_jax.solvers.richardson_lucy import RichardsonLucyUpdate, iterate, richardson_lucy_update
from dps_jax.typing import Array

_prepared = partial(jax.jit, static_argnames=("factor", "boundary", "tv_weight"))(richardson_lucy_update)


@partial(jax.jit, static_argnames=("iterations", "accelerated"), donate_argnames="start")
def _iterated(start: Array, update: RichardsonLucyUpdate, *, iterations: int, accelerated: bool) -> Array:
    axes = tuple(range(-len(update.frame.shape), 0))
    return iterate(update, start, axes, iterations=iterations, accelerated=accelerated)


def run_richardson_lucy(
    image: Array, psf: Array, *, iterations: int = 20, accelerated: bool = False, **options: Any
) -> Array:
    """Deconvolve an image by two programs, compiled once for images and kernels of one shape and the same options.

    Parameters, result and errors are those of :func:`dps_jax.solvers.richardson_lucy`, which is the same as a pure
    function; ``iterations`` must be a Python number.
    """
    _checks.positive_integer("iterations", iterations)
    check_psf(psf)
    update, start = _prepared(image, psf, **options)
    return update.frame.inside(_iterated(start, update, iterations=iterations, accelerated=accelerated))
