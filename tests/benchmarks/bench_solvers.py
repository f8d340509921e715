"""Richardson-Lucy against scikit-image's and against the FFTs that no implementation can do without: ratios.

Off in the suite. Wanted: scikit-image at least 3 times as slow as ours, ours at most 1.5 times its bare FFTs. Measured
on two cores: 1.8 and 1.4 (with one thread per device, as here and on the command line; 2.4 where XLA threads its
FFTs, which it does not with what lies between them).

1024 x 1024 pixels, a kernel of 25 x 25, 20 iterations, one grid for image and result (all that
scikit-image has); medians of interleaved rounds after a warm-up. Bare FFTs are four transforms per iteration, two
forward and two back, of the padded image.
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


def test_richardson_lucy(benchmark):
    rng = np.random.default_rng(0)
    image = rng.poisson(100 * rng.random((SIDE, SIDE)) + 1).astype(np.float32)
    psf = np.asarray(gaussian_psf(sigma_px=3.0, size=25))
    ours = jax.jit(lambda i: richardson_lucy(i, psf, iterations=ITERATIONS, factor=1))
    zero = jax.jit(lambda i: richardson_lucy(i, psf, iterations=ITERATIONS, factor=1, boundary="constant"))

    def transforms(x):
        wide = jnp.pad(x, ((0, 1080 - SIDE), (0, 1080 - SIDE)))

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
    times = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(5):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(t) for name, t in times.items()}
    own = medians["ours, mirrored border"]
    ratios = {
        "scikit-image over ours": medians["scikit-image"] / own,
        "ours over bare FFTs": own / medians["bare FFTs"],
    }
    print()
    for name, value in {**medians, **ratios}.items():
        print(f"{name}: {value:.3f}")
    benchmark.extra_info.update({**medians, **ratios})
    benchmark.pedantic(lambda: jax.block_until_ready(ours(given)), rounds=3)
    # Both fail as measured; they are what is wanted.
    assert ratios["scikit-image over ours"] >= 3
    assert ratios["ours over bare FFTs"] <= 1.5
