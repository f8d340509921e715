import jax
import numpy as np
import pytest

from dps_jax import metrics

CUTOFF = 0.15


def radius(shape):
    return np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :])


def test_is_the_definition(rng):
    truth, image = rng.normal(size=(2, 60, 72))
    image += truth
    fa, fb, k = np.fft.fft2(image), np.fft.fft2(truth), radius(truth.shape) * 60
    values = []
    for ring in range(31):
        if CUTOFF < ring / 60 <= 1.67 * CUTOFF:
            mask = np.abs(k - ring - 1e-6) < 0.5
            power = (np.abs(fa[mask]) ** 2).sum() * (np.abs(fb[mask]) ** 2).sum()
            values.append((fa[mask] * fb[mask].conj()).sum().real / np.sqrt(power))
    assert len(values) == 6  # rings 10 to 15: 9 lies on the cut-off itself
    found = metrics.out_of_band_correlation(image, truth, cutoff_cycles_px=CUTOFF, window=False)
    np.testing.assert_allclose(found, np.mean(values), atol=1e-5)


def test_truth_scores_one_invention_nothing(rng):
    truth = rng.normal(size=(256, 256))
    low_pass = np.fft.ifft2(np.fft.fft2(truth) * (radius(truth.shape) <= CUTOFF)).real
    invented = low_pass + rng.normal(size=truth.shape)
    images = np.stack([3 * truth + 5, invented, (truth + rng.normal(size=truth.shape)) / 2])
    scores = metrics.out_of_band_correlation(images, np.stack([truth] * 3), cutoff_cycles_px=CUTOFF)
    np.testing.assert_allclose(scores[0], 1, atol=1e-5)
    # 26 rings of 160 independent pairs: standard error 0.016, 1.5 times that with the window; three of them.
    np.testing.assert_allclose(scores[1:], [0, np.sqrt(0.5)], atol=0.07)


def test_frequencies_below_the_cutoff_do_not_matter(truth):
    detail = truth - truth.mean()
    strong = np.fft.ifft2(np.fft.fft2(truth) * (radius(truth.shape) <= 0.8 * CUTOFF)).real
    changed = detail + 3 * strong  # the windows' leakage must stay small
    score = metrics.out_of_band_correlation(changed, truth, cutoff_cycles_px=CUTOFF)
    assert float(score) > 0.99


def test_gradient_raises_the_score(rng):
    truth, image = rng.normal(size=(2, 64, 64)).astype(np.float32)

    def score(x):
        return metrics.out_of_band_correlation(x, truth, cutoff_cycles_px=CUTOFF)

    direction = jax.jit(jax.grad(score))(image)
    size = float((direction**2).sum())
    step = 0.05 / size  # predicts a rise of 0.05
    np.testing.assert_allclose(score(image + step * direction) - score(image), 0.05, rtol=0.2)
    traced = jax.jit(lambda x, k: metrics.out_of_band_correlation(x, truth, cutoff_cycles_px=k))(
        image, CUTOFF
    )
    np.testing.assert_allclose(traced, score(image), atol=1e-5)


def test_static_cutoff_under_jit(rng):
    truth = rng.normal(size=(2, 64, 64)).astype(np.float32)
    found = jax.jit(lambda x: metrics.out_of_band_correlation(x, x, cutoff_cycles_px=CUTOFF))(truth)
    np.testing.assert_allclose(found, 1, atol=1e-5)


def test_refused(rng):
    image = rng.normal(size=(32, 32))
    with pytest.raises(ValueError, match="finer grid"):
        metrics.out_of_band_correlation(image, image, cutoff_cycles_px=0.6)
    with pytest.raises(ValueError, match="got none"):
        metrics.out_of_band_correlation(image, image, cutoff_cycles_px=0.2, extension=1.0)
    with pytest.raises(ValueError, match="one shape"):
        metrics.out_of_band_correlation(image, image[1:], cutoff_cycles_px=0.2)


@pytest.mark.parametrize("window", [True, False])
def test_white_noise_has_its_variance_as_power(rng, window):
    frequencies, power = metrics.radial_power_spectrum(3 * rng.normal(size=(2, 128, 160)), window=window)
    assert frequencies.shape == (65,)
    # 13,000 coefficients per image, chi-square of 2 degrees each: 1 %, three times that with the window.
    np.testing.assert_allclose(power[:, 5:].mean(1), 9, rtol=0.06)


def test_a_wave_has_its_power_in_its_ring():
    wave = np.cos(2 * np.pi * 12 / 96 * np.arange(96))[:, None] * np.ones(96)
    frequencies, power = metrics.radial_power_spectrum(wave, window=False)
    assert int(np.argmax(power)) == 12
    np.testing.assert_allclose(frequencies[12], 0.125, rtol=1e-6)
    np.testing.assert_allclose(np.delete(power, 12), 0, atol=1e-4 * float(power[12]))
