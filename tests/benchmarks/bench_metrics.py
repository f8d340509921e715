"""Seconds of the resolution metrics on 2048 x 2048 px; wanted on two free cores: FRC 0.5, decorrelation 5. Off in the
suite, and the one place where seconds are wanted and not ratios: a user waits for them.
"""

import statistics
import time

import jax
import numpy as np

from dps_jax.metrics import decorrelation_resolution, frc_resolution


def seconds(call, rounds=5):
    """Return the median after a warm-up."""
    jax.block_until_ready(call())
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def test_resolution(figure, rng):
    light = 100 * rng.random((2048, 2048)) ** 4
    a, b = (rng.poisson(light).astype(np.float32) for _ in range(2))
    frc = jax.jit(lambda a, b: frc_resolution(a, b, pixel_size_nm=50.0))
    figure("FRC, 2048 px", seconds(lambda: frc(a, b)), "s", at_most=0.5)
    figure(
        "decorrelation, 2048 px",
        seconds(lambda: decorrelation_resolution(a, pixel_size_nm=50.0), 3),
        "s",
        at_most=5,
    )
