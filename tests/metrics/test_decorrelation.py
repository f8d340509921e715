import jax
import numpy as np
import pytest

from dps_jax import metrics


def curve_by_disks(image, high_pass):
    """Definition (Descloux 2019, eq. 1) on the full spectrum: correlate image and phase inside a disk."""
    n = image.shape[0]
    edge = np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) / (0.05 * n)
    taper = 0.5 - 0.5 * np.cos(np.pi * np.clip(edge, 0, 1))
    spectrum = np.fft.fft2((image - image.mean()) * taper[:, None] * taper)
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n)))
    ring = np.floor(k * n + 0.5 - 1e-6)
    filtered = spectrum * (1 if high_pass is None else 1 - np.exp(-2 * (2 * high_pass * k) ** 2))
    filtered[(ring == 0) | (ring > n // 2)] = 0
    phase = np.where(ring == 0, 0, spectrum / np.abs(spectrum))
    values = []
    for radius in range(n // 2 + 1):
        inside = np.where(ring <= radius, phase, 0)
        norm = np.sqrt((np.abs(filtered) ** 2).sum() * max((np.abs(inside) ** 2).sum(), 1))
        values.append((filtered * inside.conj()).sum().real / norm)
    return np.array(values)


# float32 rounds small coefficients: 1e-5. With a filter, one value stands for a whole ring: its steepest
# slope, 2 g exp(-1/2), times half a ring of 128.
@pytest.mark.parametrize(
    ("high_pass", "tolerance"), [(None, 1e-5), (2.0, 4 * np.exp(-0.5) / 256), (0.7, 1.4 * np.exp(-0.5) / 256)]
)
def test_curve_is_the_definition(exposures, high_pass, tolerance):
    image = exposures[200][0][:256, :256]
    radii, curve = metrics.decorrelation_curve(image, high_pass=high_pass)
    np.testing.assert_allclose(radii, np.arange(129) / 128, rtol=1e-6)
    np.testing.assert_allclose(curve, curve_by_disks(image.astype(float), high_pass), atol=tolerance)


@pytest.mark.parametrize(("period_nm", "reading"), [(100, 119), (150, 177), (200, 231)])
def test_reads_the_known_cutoff(exposures, period_nm, reading):
    found = float(metrics.decorrelation_resolution(exposures[period_nm][0], pixel_size_nm=32.5))
    # The design's reference readings for these cut-offs; another scene, so 5 %.
    assert abs(found / reading - 1) < 0.05


def test_scales_with_the_pixel_and_not_with_intensity(exposures):
    image = exposures[150][0]
    both = np.stack([image, 1e-3 * image + 7])
    found = metrics.decorrelation_resolution(both, pixel_size_nm=65.0)
    assert found.shape == (2,)
    np.testing.assert_allclose(
        found, 2 * metrics.decorrelation_resolution(image, pixel_size_nm=32.5), rtol=0.01
    )


def test_a_batch_is_one_call_however_it_is_made(exposures):
    images = np.stack([exposures[period][0][:256, :256] for period in (100, 150, 200)])

    def resolution(image):
        return metrics.decorrelation_resolution(image, pixel_size_nm=32.5)

    one_by_one = [float(resolution(image)) for image in images]
    assert one_by_one[0] < one_by_one[1] < one_by_one[2]
    for found in (resolution(images), jax.vmap(resolution)(images), jax.jit(jax.vmap(resolution))(images)):
        # A peak is a ring: rounding moves it by one of 128 at the most.
        np.testing.assert_allclose(found, one_by_one, rtol=1 / 40)


def test_oblong_image(exposures):
    image = exposures[150][0][:400, :300]
    found = float(metrics.decorrelation_resolution(image, pixel_size_nm=32.5))
    assert abs(found / 177 - 1) < 0.07


def test_nothing_to_resolve(rng):
    assert np.isinf(metrics.decorrelation_resolution(np.zeros((64, 64)), pixel_size_nm=1.0))
    assert np.isinf(metrics.decorrelation_resolution(rng.normal(size=(256, 256)), pixel_size_nm=1.0))


def test_invented_texture_reads_as_resolution(exposures, rng):
    # What the docstring warns of: fine texture without any truth makes the reading better.
    image = exposures[200][0]
    texture = rng.normal(size=image.shape)
    k = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)[None, :])
    texture = np.fft.irfft2(np.fft.rfft2(texture) * (k < 0.4), s=image.shape)
    honest, faked = metrics.decorrelation_resolution(
        np.stack([image, image + 100 * texture]), pixel_size_nm=32.5
    )
    assert faked < 0.6 * honest


def test_refused():
    with pytest.raises(ValueError, match="finite"):
        metrics.decorrelation_resolution(np.full((16, 16), np.nan), pixel_size_nm=1.0)
    with pytest.raises(ValueError, match="axes"):
        metrics.decorrelation_resolution(np.ones(16), pixel_size_nm=1.0)
    with pytest.raises(ValueError, match="pixel_size_nm"):
        metrics.decorrelation_resolution(np.ones((16, 16)), pixel_size_nm=-1.0)
