"""Richardson-Lucy against scikit-image's and against the FFTs that no implementation can do without: ratios.

Off in the suite. Wanted: scikit-image at least 3 times as slow as ours, ours at most 1.5 times its bare FFTs. On one
thread, as here and on the command line, the first cannot be had: the bare FFTs alone take scikit-image's time over
MOST (printed), which has six transforms per iteration where four will do. Measured on two idle cores:
scikit-image over ours 1.43 by the clock and 1.24 by processor time, ours over the bare FFTs 1.47 and 1.70, scikit-image
over the bare FFTs 2.1. So this fails: it asserts what is wanted.

1024 x 1024 pixels, a kernel of 25 x 25, 20 iterations, one grid for image and result (all that
scikit-image has); medians of interleaved rounds after a warm-up, in seconds of processor time, which other work on the
machine disturbs less, and of the clock. Bare FFTs are four transforms per iteration, two forward and two back, of the
padded image.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from skimage import restoration

from dps_jax.optics import gaussian_psf
from dps_jax.solvers import richardson_lucy

SIDE, ITERATIONS = 1024, 20
PADDED = 1050  # the next length that FFTs are fast for beyond SIDE and 12 px on either side


def test_richardson_lucy(benchmark):
    rng = np.random.default_rng(0)
    image = rng.poisson(100 * rng.random((SIDE, SIDE)) + 1).astype(np.float32)
    psf = np.asarray(gaussian_psf(sigma_px=3.0, size=25))
    ours = jax.jit(lambda i: richardson_lucy(i, psf, iterations=ITERATIONS, factor=1))
    zero = jax.jit(lambda i: richardson_lucy(i, psf, iterations=ITERATIONS, factor=1, boundary="constant"))

    def transforms(x):
        wide = jnp.pad(x, ((0, PADDED - SIDE), (0, PADDED - SIDE)))

        def body(_, y):
            for _ in range(2):
                y = jnp.fft.irfft2(jnp.fft.rfft2(y), s=y.shape)
            return y

        return jax.lax.fori_loop(0, ITERATIONS, body, wide)

    bare, given = jax.jit(transforms), jnp.asarray(image)
    calls = {
        "ours, mirrored border": lambda: ours(given),
        "ours, dark border": lambda: zero(given),
        "bare FFTs": lambda: bare(given),
        "scikit-image": lambda: restoration.richardson_lucy(image, psf, num_iter=ITERATIONS, clip=False),
    }
    clocks = {"processor": time.process_time, "clock": time.perf_counter}
    times = {(name, kind): [] for name in calls for kind in clocks}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(7):
        for name, call in calls.items():
            start = {kind: now() for kind, now in clocks.items()}
            jax.block_until_ready(call())
            for kind, now in clocks.items():
                times[name, kind].append(now() - start[kind])
    medians = {", ".join(key): statistics.median(t) for key, t in times.items()}
    ratios = {}
    for kind in clocks:
        own, bare_ffts, other = (
            medians[f"{name}, {kind}"] for name in ("ours, mirrored border", "bare FFTs", "scikit-image")
        )
        ratios[f"scikit-image over ours, {kind}"] = other / own
        ratios[f"ours over bare FFTs, {kind}"] = own / bare_ffts
        ratios[f"scikit-image over bare FFTs (MOST), {kind}"] = other / bare_ffts
    print()
    for name, value in {**medians, **ratios}.items():
        print(f"{name}: {value:.3f}")
    benchmark.extra_info.update({**medians, **ratios})
    benchmark.pedantic(lambda: jax.block_until_ready(ours(given)), rounds=3)
    # Both fail as measured; they are what is wanted.
    assert ratios["scikit-image over ours, processor"] >= 3
    assert ratios["ours over bare FFTs, processor"] <= 1.5
