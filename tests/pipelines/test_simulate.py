"""Simulated exposures: repeatable, of the photons asked for, and of a truth that explains them."""

import numpy as np
import pytest
from scipy import signal

from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire

ARRAYS = ("truth", "expected", "image", "repeat")


@pytest.fixture(scope="module")
def scenes():
    options = {"shape": (96, 80), "photons": 120.0, "background": 3.0}
    return [acquire(seed, DEMO_SYSTEM, **options) for seed in (0, 1, 2)]


def test_everything_follows_from_the_seed(scenes):
    again = acquire(0, DEMO_SYSTEM, shape=(96, 80), photons=120.0, background=3.0)
    for name in ARRAYS:
        assert np.array_equal(getattr(again, name), getattr(scenes[0], name))
        assert not np.array_equal(getattr(again, name), getattr(scenes[1], name))


def test_shapes(scenes):
    made = scenes[0]
    assert made.truth.shape == (192, 160)
    assert made.expected.shape == made.image.shape == made.repeat.shape == (96, 80)
    assert all(getattr(made, name).dtype == np.float32 for name in ARRAYS)
    assert made.truth.min() >= 0


@pytest.mark.parametrize("photons", [5.0, 100.0, 3000.0])
def test_the_brightest_pixel_has_the_photons_asked_for(photons):
    made = acquire(1, DEMO_SYSTEM, shape=(48, 48), photons=photons, background=7.0)
    assert made.expected.max() - made.background == pytest.approx(photons, rel=1e-5)
    assert made.expected.min() >= made.background - 1e-4 * photons


def test_the_truth_explains_the_image(scenes):
    for made in scenes:
        psf = np.asarray(made.psf, np.float64)
        assert psf.sum() == pytest.approx(1, abs=1e-5)
        blurred = signal.fftconvolve(made.truth.astype(np.float64), psf, mode="same")
        seen = blurred.reshape(96, 2, 80, 2).sum((1, 3)) + made.background
        reach = -(-(psf.shape[0] // 2) // 2)  # nearer to the border, light comes from outside the truth
        inner = (slice(reach, -reach),) * 2
        # float32 FFT of the whole scene.
        assert np.abs(seen - made.expected)[inner].max() < 1e-4 * made.expected.max()


def test_the_truth_holds_the_photons_of_the_image(scenes):
    # As much light enters through the border as leaves: scenes go on beyond the frame. One scene may be brighter
    # on one side; a rim of two Airy widths is a tenth of the frame.
    ratio = [made.truth.sum() / (made.expected - made.background).sum() for made in scenes]
    assert np.mean(ratio) == pytest.approx(1, abs=0.1)


def test_the_two_exposures_are_independent_photon_counts(scenes):
    for made in scenes:
        first, second = ((i - made.expected) / np.sqrt(made.expected) for i in (made.image, made.repeat))
        n = first.size
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / np.sqrt(n)
        for residual in (first, second):
            assert abs(residual.mean()) < 5 / np.sqrt(n)
            # Poisson counts of 3 have a kurtosis of 3 + 1/3: the variance is known to sqrt(2.4 / n).
            assert residual.var() == pytest.approx(1, abs=5 * np.sqrt(2.4 / n))
        assert np.array_equal(made.image, np.rint(made.image))


def test_read_noise_adds_its_variance():
    made = acquire(0, DEMO_SYSTEM, shape=(96, 80), photons=50.0, background=3.0, read_noise_photons=4.0)
    variance = np.mean((made.image - made.expected) ** 2 - made.expected)
    # Fourth moments of the sum: 3 (mean + 16)^2 and a little, over 9216 pixels.
    spread = np.sqrt(2.4 * np.mean((made.expected + 16) ** 2) / made.image.size)
    assert variance == pytest.approx(16.0, abs=float(5 * spread))


def test_families_can_be_chosen():
    grating = acquire(0, DEMO_SYSTEM, shape=(48, 48), families=("gratings",))
    pores = acquire(0, DEMO_SYSTEM, shape=(48, 48), families=("nuclear_pores",))
    assert not np.array_equal(grating.truth, pores.truth)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"photons": 0}, "photons to be a finite number above 0"),
        ({"photons": float("nan")}, "photons to be a finite number above 0"),
        ({"background": -1}, "background to be a finite number of 0 or more"),
        ({"read_noise_photons": -1.0}, "sigma_photons to be a finite number of 0 or more"),
        ({"families": ()}, "families as a sequence of one or more names"),
        ({"families": ("nope",)}, "a family to be one of .*got 'nope'"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=f"expected {message}"):
        acquire(0, DEMO_SYSTEM, shape=(48, 48), **settings)
