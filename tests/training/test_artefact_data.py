"""Pairs for the removal of artefacts: repeatable, clean where they say so, and as a restored image is."""

import numpy as np
import pytest

from dps_jax.synthetic.structures import TRAINING_FAMILIES, WITHHELD_FAMILIES
from dps_jax.training.artefact_data import KINDS, ArtefactConfig, example, make_batches

CONFIG = ArtefactConfig(patch_px=48, batch=6, seed=3)
QUIET = ArtefactConfig(noisy=0.0, clipped=0.0)


def power_beyond(image, frequency):
    """Share of the variance at frequencies above, in cycles per px."""
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])[None]
    power = np.abs(np.fft.fft2((image - np.average(image, weights=window)) * window)) ** 2
    fy, fx = (np.fft.fftfreq(n) for n in image.shape)
    return power[np.hypot(fy[:, None], fx[None]) > frequency].sum() / power.sum()


def test_a_batch_is_a_function_of_config_and_step():
    batch, again = make_batches(CONFIG)(5), make_batches(CONFIG)(5)
    for name, array in batch.items():
        np.testing.assert_array_equal(array, again[name])
    assert batch["input"].shape == (6, 48, 48, 1)
    assert batch["target"].shape == (6, 48, 48)
    assert {batch["input"].dtype, batch["target"].dtype} == {np.dtype(np.float32)}
    assert np.abs(batch["target"] - make_batches(CONFIG)(6)["target"]).max() > 0.1


def test_clean_images_are_their_own_targets_and_a_quarter():
    kinds, families = [], []
    for step in range(40):
        batch = make_batches(CONFIG)(step)
        for image, target, kind in zip(batch["input"], batch["target"], batch["kind"], strict=True):
            assert np.array_equal(image[..., 0], target) == (kind == 0)
        kinds += list(batch["kind"])
        families += list(batch["family"])
    # Binomial of 240 with 0.25: a standard deviation of 0.028.
    assert np.mean(np.array(kinds) == 0) == pytest.approx(0.25, abs=0.1)
    assert set(kinds) == set(range(len(KINDS)))
    assert set(families) == set(range(len(TRAINING_FAMILIES)))


def test_images_have_the_resolution_and_brightness_of_restored_ones():
    brightest = []
    for seed in range(30):
        clean = example(np.random.default_rng(seed), (64, 64), QUIET, kind="none").clean
        brightest.append(clean.max())
        # The cut-off is 1.9 cycles per period of 5 px at most. The kernel ends where 5 % of its light are still
        # outside: 0.05^2 of the power leaks, several times that of a scene that is fine throughout.
        assert power_beyond(clean, 1.9 / 5 + 2 / 64) < 0.01
    assert min(brightest) >= 0.3 - 1e-5
    assert max(brightest) <= 1.2 + 1e-5
    assert max(brightest) / min(brightest) > 2


def test_noise_stays_and_negative_light_goes():
    noisy, still = (
        example(np.random.default_rng(4), (64, 64), ArtefactConfig(noisy=n, clipped=0.0), kind="none")
        for n in (1.0, 0.0)
    )
    difference = noisy.clean - still.clean
    assert 0.0003 < difference.std() < 0.03 * 1.2
    np.testing.assert_array_equal(noisy.image, noisy.clean)
    for kind in KINDS:
        clipped = example(
            np.random.default_rng(4), (64, 64), ArtefactConfig(noisy=1.0, clipped=1.0), kind=kind
        )
        assert min(clipped.image.min(), clipped.clean.min()) >= 0


def test_single_families_and_withheld_ones():
    config = ArtefactConfig(single=True, batch=8, patch_px=32)
    one = make_batches(config)(0)
    assert np.abs(one["target"] - make_batches(ArtefactConfig(batch=8, patch_px=32))(0)["target"]).max() > 0.1
    for kind in KINDS:
        drawn = example(np.random.default_rng(1), (40, 56), CONFIG, families=WITHHELD_FAMILIES, kind=kind)
        assert drawn.image.shape == drawn.clean.shape == (40, 56)
        assert drawn.kind == KINDS.index(kind)


def test_refusals(rng):
    with pytest.raises(ValueError, match="expected kind to be one of 'none', 'honeycomb'"):
        example(rng, (32, 32), CONFIG, kind="moire")
    for change in ({"clean": 1.5}, {"noisy": -0.1}, {"clipped": 2}):
        with pytest.raises(ValueError, match=f"expected {next(iter(change))} to be a share from 0 to 1"):
            ArtefactConfig(**change)
    with pytest.raises(ValueError, match="expected patch_px to be a whole number of 1 or more"):
        ArtefactConfig(patch_px=0)
    with pytest.raises(ValueError, match="expected perceptual to be a finite number of 0 or more"):
        ArtefactConfig(perceptual=-1.0)
