import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax import metrics


def frc_by_masks(a, b, steps=None):
    """Definition, on the full spectrum, ring by ring, in float64; no window."""
    steps = steps or (1.0,) * a.ndim
    axes = [np.fft.fftfreq(n, d) for n, d in zip(a.shape, steps, strict=True)]
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(*axes, indexing="ij")))
    width = 1 / min(n * d for n, d in zip(a.shape, steps, strict=True))
    fa, fb = np.fft.fftn(a.astype(float)), np.fft.fftn(b.astype(float))
    values = []
    for ring in range(int(0.5 / width + 1e-9) + 1):
        # Half-way between two rings belongs to the lower one.
        mask = np.abs(radius / width - ring - 1e-6) < 0.5
        cross = (fa[mask] * fb[mask].conj()).sum().real
        values.append(cross / np.sqrt((np.abs(fa[mask]) ** 2).sum() * (np.abs(fb[mask]) ** 2).sum()))
    return np.array(values), width


def correlated(rng, shape, noise=1.0):
    signal = rng.normal(size=shape)
    return [(signal + noise * rng.normal(size=shape)).astype(np.float32) for _ in range(2)]


@pytest.mark.parametrize("shape", [(63, 63), (48, 80), (81, 50)])
def test_curve_is_the_definition(rng, shape):
    a, b = correlated(rng, shape)
    expected, width = frc_by_masks(a, b)
    frequencies, curve = metrics.frc_curve(a, b, window=False)
    np.testing.assert_allclose(frequencies, np.arange(expected.size) * width, rtol=1e-6)
    # float32 sums of at most a few hundred terms: errors of some 1e-6.
    np.testing.assert_allclose(curve, expected, atol=2e-5)


@pytest.mark.parametrize(("shape", "z_step"), [((16, 20, 24), 1.0), ((9, 24, 24), 3.0)])
def test_shells_are_the_definition(rng, shape, z_step):
    a, b = correlated(rng, shape)
    expected, width = frc_by_masks(a, b, (z_step, 1.0, 1.0))
    frequencies, curve = metrics.fsc_curve(a, b, window=False, z_step_px=z_step)
    np.testing.assert_allclose(frequencies, np.arange(expected.size) * width, rtol=1e-6)
    np.testing.assert_allclose(curve, expected, atol=2e-5)


@pytest.mark.parametrize("z_step", [1.0, 2.0])
def test_resolution_of_volumes_is_the_cutoff(rng, z_step):
    shape, cutoff, pixel_nm = (int(48 / z_step), 48, 48), 1 / 6, 50.0
    z, y, x = np.meshgrid(
        np.fft.fftfreq(shape[0], z_step), np.fft.fftfreq(48), np.fft.fftfreq(48), indexing="ij"
    )
    within = np.sqrt(z**2 + y**2 + x**2) < cutoff
    scene = np.fft.ifftn(np.fft.fftn(rng.normal(size=shape)) * within).real
    a, b = (scene + 0.2 * scene.std() * rng.normal(size=shape) for _ in range(2))
    found = metrics.fsc_resolution(a, b, pixel_size_nm=pixel_nm, z_step_px=z_step, smooth=0.0, window=False)
    # Between the last shell with signal and the first without.
    assert cutoff - 1 / 48 < pixel_nm / float(found) < cutoff + 1 / 48


def test_curve_of_white_signal_in_white_noise(rng):
    a, b = correlated(rng, (256, 256), noise=2.0)
    # Signal share 1 / (1 + 4); 32,000 independent pairs pooled: standard error 0.006, the window doubles it.
    np.testing.assert_allclose(float(metrics.frc_curve(a, b)[1][20:].mean()), 0.2, atol=0.05)


def test_equal_images_correlate_fully_and_scale_is_free(rng):
    a = rng.normal(size=(64, 64)).astype(np.float32)
    _, curve = metrics.frc_curve(a, 1e6 * a + 3e6)
    np.testing.assert_allclose(curve[1:], 1, atol=1e-3)  # 3e6 + 1e6 a carries 1e-7 * 3 of rounding noise
    assert np.all(np.isfinite(curve))
    np.testing.assert_allclose(metrics.frc_curve(a, -a)[1][1:], -1, atol=1e-5)


def test_batch_equals_single_images_under_jit(rng):
    a, b = (np.stack(x) for x in zip(*[correlated(rng, (200, 224)) for _ in range(2)], strict=True))

    def both(x, y):
        return metrics.frc_curve(x, y)[1], metrics.frc_resolution(x, y, pixel_size_nm=10.0, threshold=0.4)

    batch, vmapped = jax.jit(lambda x, y: (both(x, y), jax.vmap(both)(x, y)))(a, b)
    curves, resolutions = zip(*[both(x, y) for x, y in zip(a, b, strict=True)], strict=True)
    for found in (batch, vmapped):
        np.testing.assert_allclose(found[0], np.stack(curves), atol=1e-5)
        np.testing.assert_allclose(found[1], np.stack(resolutions), rtol=1e-3)


def test_gradient_is_the_slope(rng):
    a, b = correlated(rng, (32, 40))
    direction = rng.normal(size=a.shape).astype(np.float32)

    score = jax.jit(lambda x: metrics.frc_curve(x, b)[1].sum())
    gradient = jax.jit(jax.grad(score))
    step = 1e-2
    slope = (score(a + step * direction) - score(a - step * direction)) / (2 * step)
    # Central difference: float32 rounding 1e-6 * 17 / 2e-2 = 1e-3, beside slopes of order 0.1 to 1.
    np.testing.assert_allclose(jnp.vdot(gradient(a), direction), slope, rtol=2e-2, atol=3e-3)
    for flat in (np.zeros_like(a), np.ones_like(a)):
        assert np.all(np.isfinite(gradient(flat)))


@pytest.mark.parametrize("period_nm", [100, 150, 200])
def test_resolution_is_the_cutoff(exposures, period_nm):
    found = float(metrics.frc_resolution(*exposures[period_nm], pixel_size_nm=32.5))
    assert abs(found / period_nm - 1) < 0.05  # the design's reference readings: 103.8, 152.5, 197.8
    two_sigma = float(
        metrics.frc_resolution(*exposures[period_nm], pixel_size_nm=32.5, threshold="2sigma", smooth=3)
    )
    assert abs(two_sigma / period_nm - 1) < 0.08


@pytest.mark.parametrize("pixel_size_nm", [20.0, 32.5, 50.0])
@pytest.mark.parametrize("period_nm", [100, 150, 200])
def test_resolution_of_a_part_of_a_larger_scene(seen_through, pixel_size_nm, period_nm):
    """Fields of 256 px that end anywhere, as real ones do: 25 to 128 rings up to the cut-off."""
    if period_nm < 2.2 * pixel_size_nm:
        pytest.skip("the pixels cannot tell that cut-off")
    clean = seen_through(pixel_size_nm / period_nm)
    photons = 3000 * clean / clean.max() + 60
    parts = [photons[y : y + 256, x : x + 256] for y in (0, 256) for x in (0, 256)]
    rng = np.random.default_rng(period_nm)
    pairs = np.stack([[rng.poisson(part) for part in parts] for _ in range(2)]).astype(np.float32)
    found = metrics.frc_resolution(*pairs, pixel_size_nm=pixel_size_nm)
    assert abs(float(found.mean()) / period_nm - 1) < 0.05


@pytest.mark.parametrize("period_nm", [150, 200])
def test_one_image_agrees_with_two(exposures, period_nm):
    # 100 nm is beyond the lattices' Nyquist limit of 4 x 32.5 nm. Each lattice has a quarter of the photons.
    image = exposures[period_nm][0]
    assert abs(float(metrics.frc_one_image(image, pixel_size_nm=32.5)) / period_nm - 1) < 0.08


def test_one_image_of_both_orientations(exposures):
    image = exposures[200][0]
    found = [metrics.frc_one_image(i, pixel_size_nm=32.5) for i in (image, image[::-1], image.T)]
    np.testing.assert_allclose(found, found[0], rtol=0.03)


def test_koho_calibration_is_near_the_exact_one_where_it_was_made(exposures):
    exact, koho = (
        float(metrics.frc_one_image(exposures[200][0], pixel_size_nm=32.5, correction=c))
        for c in ("phase", "koho")
    )
    assert abs(koho / exact - 1) < 0.12


def test_never_crossing():
    noise = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    assert np.isnan(metrics.frc_resolution(noise, noise, pixel_size_nm=10.0))
    assert np.isinf(metrics.frc_resolution(noise, -noise, pixel_size_nm=10.0))
    assert np.isinf(metrics.frc_resolution(np.zeros_like(noise), noise, pixel_size_nm=10.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: metrics.frc_curve(a, a[1:]), "one shape"),
        (lambda a: metrics.frc_curve(a[0], a[0]), "axes"),
        (lambda a: metrics.fsc_curve(a, a), "axes"),
        (lambda a: metrics.frc_resolution(a, a, pixel_size_nm=0.0), "pixel_size_nm"),
        (lambda a: metrics.frc_resolution(a, a, pixel_size_nm=1.0, threshold="half"), "threshold"),
        (lambda a: metrics.frc_one_image(a, pixel_size_nm=1.0, correction="no"), "correction"),
        (lambda a: metrics.frc_one_image(a[:6, :6], pixel_size_nm=1.0), "sides"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((16, 16), np.float32))
