"""Pairs from the user's own images: one place, independent noise, the right level."""

import numpy as np
import pytest

from dps_jax.training.denoise_data import config_for
from dps_jax.training.denoise_own import mode_for, pairs_from_image, pairs_from_repeats


def configured(mode, **changes):
    return config_for(mode, **{"channels": (4, 8), "patch_px": 32, "batch": 4, **changes})


def test_what_there_is_decides():
    assert mode_for(clean=True, repeats=True, photons=True) == "clean"
    assert mode_for(repeats=True) == mode_for(photons=True) == "split"
    assert mode_for() == "recorrupted"


def test_repeats_make_pairs_of_one_place(rng):
    config = configured("split", seed=5)
    truth = rng.random((3, 50, 60)) + 1.0
    first, second = truth + 0.0, truth + 100.0  # told apart by their level
    batch = pairs_from_repeats(first, second, config, photons=50.0)
    pair, again = batch(1), batch(1)
    assert all(np.array_equal(pair[k], again[k]) for k in pair)
    assert pair["input"].shape == (4, 32, 32, 2)
    level = np.round((pair["target"] - pair["input"][..., 0]).mean((1, 2)))
    assert set(np.abs(level)) == {100.0}
    shown_first = level > 0
    # Shown and scored are the same place, whichever is shown and however it lies; float32 beside 100.
    assert np.allclose(pair["target"] - pair["input"][..., 0], level[:, None, None], atol=1e-4)
    signs = {bool(b) for step in range(8) for b in np.sign((batch(step)["target"]).mean((1, 2)) - 50) > 0}
    assert signs == {True, False}
    expected = np.sqrt(np.where(shown_first, 1.5, 101.5) / 50)
    assert np.allclose(pair["input"][..., 1].mean((1, 2)), expected, rtol=0.05)


@pytest.mark.parametrize("mode", ["split", "recorrupted"])
def test_the_noise_of_one_image_is_divided_in_two(mode):
    # A flat specimen of 40 photons above 10 of background, in units of 20 photons.
    config = configured(mode, batch=32, patch_px=64)
    image = (np.random.default_rng(5).poisson(50.0, (256, 256)) - 10) / 20
    batch = pairs_from_image(image, config, photons=20.0, background=0.5, dark_variance=0.5 / 20)
    pair, again, other = batch(0), batch(0), batch(1)
    assert all(np.array_equal(pair[k], again[k]) for k in pair)
    assert not any(np.array_equal(pair[k], other[k]) for k in pair)
    seen, told, target = pair["input"][..., 0], pair["input"][..., 1], pair["target"]
    # At most as many independent numbers as the image has pixels.
    n = min(seen.size, image.size)
    assert abs(np.corrcoef(seen.ravel(), target.ravel())[0, 1]) < 5 / np.sqrt(n)
    assert seen.mean() == pytest.approx(2.0, abs=5 * seen.std() / np.sqrt(n))
    assert target.mean() == pytest.approx(2.0, abs=5 * target.std() / np.sqrt(n))
    # Variance 50 photons^2 of the whole image, twice that of a half, 1.25 times that recorrupted.
    expected = 50 / 20**2 * (2.0 if mode == "split" else 1.25)
    assert seen.var() == pytest.approx(expected, rel=5 * np.sqrt(2 / n))
    assert np.mean(told**2) == pytest.approx(expected, rel=0.01 + 5 * np.sqrt(2 / n))


def test_images_that_cannot_be_used_are_refused():
    image, config = np.ones((40, 40)), configured("split")
    with pytest.raises(ValueError, match="one shape"):
        pairs_from_repeats(image, image[:-1], config, photons=10.0)
    with pytest.raises(ValueError, match="at least 32 px"):
        pairs_from_repeats(image[:20], image[:20], config, photons=10.0)
    with pytest.raises(ValueError, match="targets are noisy"):
        pairs_from_repeats(image, image, configured("clean"), photons=10.0)
    with pytest.raises(ValueError, match="at least 32 px"):
        pairs_from_image(image[:20], config, photons=10.0)
    with pytest.raises(ValueError, match="targets are noisy"):
        pairs_from_image(image, configured("clean"), photons=10.0)
    with pytest.raises(ValueError, match="background"):
        pairs_from_image(image, config, photons=10.0, background=-1.0)
    with pytest.raises(ValueError, match="photons"):
        pairs_from_repeats(image, image, config, photons=0.0)
