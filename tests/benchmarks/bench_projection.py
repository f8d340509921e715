"""Why the networks shuffle pixels and the operators use FFTs: ratios measured side by side in one run.

Off in the suite. Times of one machine mean little elsewhere, so what goes into the table are ratios, taken from medians
of interleaved rounds after a warm-up.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dps_jax.models.blocks import Upscale, transposed_kernel
from dps_jax.operators import convolve

LAYOUT = ("NHWC", "HWIO", "NHWC")
BATCH, SIDE, CHANNELS = 4, 64, 64


def _seconds(call):
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def _medians(calls, rounds):
    """Return the median seconds of each call; rounds alternate, so that a busy moment meets all alike."""
    for call in calls.values():
        jax.block_until_ready(call())
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(_seconds(call))
    return {name: statistics.median(t) for name, t in times.items()}


def _ratio(calls, slow, fast, rounds):
    medians = _medians(calls, rounds)
    print(f"\n{slow}: {medians[slow]:.4f} s, {fast}: {medians[fast]:.4f} s")
    return medians[slow] / medians[fast]


def _projections(rng):
    """Gradients with respect to image and kernel of both ways to double the grid; and their loss."""
    kernel = rng.normal(size=(3, 3, CHANNELS, 4 * CHANNELS)).astype(np.float32) / np.sqrt(9 * CHANNELS)
    image = jnp.asarray(rng.normal(size=(BATCH, SIDE, SIDE, CHANNELS)), jnp.float32)
    target = jnp.asarray(rng.normal(size=(BATCH, 2 * SIDE, 2 * SIDE, CHANNELS)), jnp.float32)

    def shuffled(image, kernel):
        parameters = {"params": {"Conv_0": {"kernel": kernel, "bias": jnp.zeros(4 * CHANNELS)}}}
        return jnp.sum(Upscale(CHANNELS).apply(parameters, image) * target)

    def transposed(image, kernel):
        out = lax.conv_transpose(image, kernel, (2, 2), padding=((3, 3), (3, 3)), dimension_numbers=LAYOUT)
        return jnp.sum(out * target)

    gradients = [jax.jit(jax.grad(f, argnums=(0, 1))) for f in (transposed, shuffled)]
    kernels = jnp.asarray(transposed_kernel(kernel)), jnp.asarray(kernel)
    return image, kernels, gradients


def test_gradient_of_a_projection(figure, rng):
    image, kernels, (transposed, shuffled) = _projections(rng)
    calls = {
        "lax.conv_transpose 6x6 stride 2": lambda: transposed(image, kernels[0]),
        "3x3 and pixel shuffle": lambda: shuffled(image, kernels[1]),
    }
    # The same map, or the comparison is void: gradients of sums of 9 * 64 products of order 1.
    slow, fast = (call() for call in calls.values())
    np.testing.assert_allclose(slow[0], fast[0], rtol=0, atol=1e-4 * float(jnp.abs(fast[0]).max()))
    carried = transposed_kernel(np.asarray(fast[1]))
    np.testing.assert_allclose(slow[1], carried, rtol=0, atol=1e-3 * np.abs(carried).max())
    ratio = _ratio(calls, *calls, rounds=3)
    figure("gradient of a projection: transposed convolution over pixel shuffle", ratio, at_least=8)


def test_fft_against_direct_convolution(figure, rng):
    image = jnp.asarray(rng.uniform(size=(256, 256)), jnp.float32)
    kernel = jnp.asarray(rng.uniform(size=(25, 25)) / 625, jnp.float32)

    def directly(image, kernel):
        flipped = jnp.flip(kernel, (0, 1))[:, :, None, None]
        out = lax.conv_general_dilated(
            image[None, :, :, None], flipped, (1, 1), "SAME", dimension_numbers=LAYOUT
        )
        return out[0, :, :, 0]

    direct, by_fft = jax.jit(directly), jax.jit(convolve)
    calls = {"direct 25x25": lambda: direct(image, kernel), "FFT": lambda: by_fft(image, kernel)}
    slow, fast = (call() for call in calls.values())
    np.testing.assert_allclose(slow, fast, rtol=0, atol=1e-5)
    # 625 multiplications a pixel against some 100: the direct way cannot be the faster one.
    figure("blur, 25 x 25: direct over FFT", _ratio(calls, *calls, rounds=9), at_least=2)
