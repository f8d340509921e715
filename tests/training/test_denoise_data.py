"""Pairs for denoising: independent noise, right expectations, a noise level that is the noise's."""

import dataclasses

import jax
import numpy as np
import pytest

from dps_jax.training import denoise_data
from dps_jax.training.config import OptimizerConfig
from dps_jax.training.denoise_data import (
    CLEAN_LOSS,
    balanced_l2,
    config_for,
    extra_terms,
    log_l2,
    make_batches,
    network_of,
    noise_channel,
    recorrupt,
)
from dps_jax.training.pairs import PairLossConfig, make_pair_loss, train_pairs

SMALL = {"channels": (4, 8), "patch_px": 32, "batch": 4, "abbe_px": (2.6, 2.6), "steps": 4}
# Noise of one kind and size, so that it can be known by hand: photons alone, no structure, nothing misjudged.
PLAIN = {"noise_error": 0.0, "background": 0.0, "read_noise": 0.0, "empty": 1.0}


def configured(mode, **changes):
    return config_for(mode, **{**SMALL, **changes})


@pytest.mark.parametrize("mode", denoise_data.MODES)
def test_a_batch_is_a_function_of_config_and_step(mode):
    batch = make_batches(configured(mode))
    first, again, other = batch(3), batch(3), batch(4)
    assert first["input"].shape == (4, 32, 32, 2)
    assert first["target"].shape == (4, 32, 32)
    assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in first.values())
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not any(np.array_equal(first[k], other[k]) for k in first)
    assert (first["input"][..., 1] > 0).all()


def test_a_clean_target_is_the_image_without_its_noise():
    bright = configured("clean", photons=(1e7, 1e7), read_noise=0.0, background=0.0, empty=0.0)
    pair = make_batches(bright)(0)
    # 1e7 photons at intensity 1, background included at most 1.8e7: five standard deviations.
    assert np.abs(pair["input"][..., 0] - pair["target"]).max() < 5 * np.sqrt(1.8e7) / 1e7
    peaks = pair["target"].max((1, 2))
    assert np.all((peaks > 0.24) & (peaks < 1.31))  # the brightness of the config


@pytest.mark.parametrize("mode", ["split", "recorrupted"])
def test_input_and_target_hold_independent_noise(mode):
    # Darkness over a pedestal: input and target are noise and nothing else.
    config = configured(mode, **PLAIN, batch=32, patch_px=64, photons=(200.0, 200.0))
    pair = make_batches(config)(0)
    seen, target = pair["input"][..., 0], pair["target"]
    lit = seen.std((1, 2)) > 0  # a third of the exposures have no pedestal
    seen, target = seen[lit], target[lit]
    seen, target = (i / i.std((1, 2), keepdims=True) for i in (seen, target))
    # A sum over so many independent products of unit variance; five standard deviations.
    assert abs(np.mean(seen * target)) < 5 / np.sqrt(seen.size)


def test_the_two_halves_are_one_exposure_of_half_the_photons():
    config = configured("split", **PLAIN, batch=64, photons=(100.0, 100.0), pedestal=0.5)
    pair = make_batches(config)(0)
    told = pair["input"][..., 1]
    # Each half of 100 photons: variance = level / 50 in units of intensity, which is what the network is told.
    measured = pair["input"][..., 0].var((1, 2)), pair["target"].var((1, 2))
    lit = told.min((1, 2)) > 0.03
    assert lit.sum() > 20
    for variance in measured:
        ratio = variance[lit] / (told[lit] ** 2).mean((1, 2))
        # The told one has the darkest mean around each pixel added, where that is above 0: sqrt(v / 50 px / 2 pi)
        # photons, 0.5 % to 1.5 % of it; each ratio is known to sqrt(2 / 1024).
        assert ratio.mean() == pytest.approx(1, abs=0.015 + 5 * np.sqrt(2 / 1024 / lit.sum()))


def test_recorruption_follows_its_formula(rng):
    image, noise = np.full((400, 400), 3.0), np.full((400, 400), 0.2)
    image = image + noise * rng.standard_normal(image.shape)
    seen, target = recorrupt(rng, image, noise=noise, strength=0.5)
    n = image.size
    # Variances (1 + a^2) s^2 and (1 + 1/a^2) s^2, each known to sqrt(2/n); covariance s^2 - s^2 = 0.
    assert seen.var() == pytest.approx(1.25 * 0.04, rel=5 * np.sqrt(2 / n))
    assert target.var() == pytest.approx(5 * 0.04, rel=5 * np.sqrt(2 / n))
    assert abs(np.corrcoef(seen.ravel(), target.ravel())[0, 1]) < 5 / np.sqrt(n)
    assert seen.mean() == pytest.approx(3.0, abs=5 * seen.std() / np.sqrt(n))
    assert target.mean() == pytest.approx(3.0, abs=5 * target.std() / np.sqrt(n))


def test_the_noise_channel_is_the_noise_of_a_flat_image(rng):
    counts = rng.poisson(50.0, (256, 256)) + rng.normal(0, 3.0, (256, 256))
    # Above a background of 10 photons, in units of 40 photons.
    above, dark = (counts - 10) / 40, (10 + 9) / 40**2
    told = noise_channel(above, photons=40.0, dark_variance=dark)
    assert told.dtype == np.float32
    # Variance 59 photons^2, known to sqrt(2 / n).
    assert np.mean(told**2) * 40**2 == pytest.approx(59.0, rel=5 * np.sqrt(2 / 256**2))
    constant = noise_channel(above, photons=40.0, dark_variance=dark, local=False)
    assert np.allclose(constant, np.sqrt(1 / 40 + dark))
    # Another unit.
    assert np.allclose(noise_channel(7 * above, photons=40 / 7, dark_variance=49 * dark), 7 * told, rtol=1e-5)


def test_the_balanced_error_weighs_images_by_their_noise(rng):
    flat = np.ones((64, 64), np.float32)
    noise = rng.normal(0, 0.1, flat.shape).astype(np.float32)
    targets = np.stack([flat + noise, flat + 4 * noise])
    quiet, loud = np.asarray(balanced_l2(np.stack([flat, flat]), targets))
    # The squared error grows 16-fold, its weight falls 4-fold but for the constant 1e-4 beside 0.01.
    assert loud / quiet == pytest.approx(4, rel=0.01)
    # mean(noise^2) / (1 + floor) / std(noise)
    assert quiet == pytest.approx(0.1 / 1.03, rel=0.05)
    gradient = jax.grad(lambda a: balanced_l2(a, targets[0]))(flat + 0.5)
    assert float(gradient.mean()) > 0


def test_a_decibel_counts_alike_in_bright_and_dark_images(rng):
    truth = rng.random((2, 32, 32)).astype(np.float32)
    error = rng.normal(size=(32, 32)).astype(np.float32)
    answer = truth + np.stack([0.1 * error, 0.05 * error])
    dark, bright = np.asarray(log_l2(answer, truth))
    # Half the error is log(4) less, but for the constant 1e-5 beside 0.0025.
    assert dark - bright == pytest.approx(np.log(4), abs=0.005)
    assert np.isfinite(log_l2(truth, truth)).all()


def test_the_mean_is_learned_and_not_the_median():
    # A constant answer to photon counts of mean 0.7 (their median is 1, or 0): the minimum of the error is the mean.
    counts = np.random.default_rng(3).poisson(0.7, (200, 200)).astype(np.float32)
    levels = np.linspace(0, 1, 101)
    losses = [float(np.mean((v - counts) ** 2)) for v in levels]
    slopes = [
        float(jax.grad(lambda a: balanced_l2(a, counts))(np.full_like(counts, v)).sum())
        for v in levels[60:81]
    ]
    # The gradient of what training follows changes sign where the squared error is least.
    best = levels[int(np.argmin(losses))]
    assert np.interp(0.0, slopes, levels[60:81]) == pytest.approx(best, abs=0.011)


@pytest.mark.parametrize("mode", denoise_data.MODES)
def test_every_mode_has_a_loss_that_falls(mode):
    # The batch is scored against itself as it is shown, and then against what it should become.
    config = configured(mode)
    pair = make_batches(config)(0)
    loss = make_pair_loss(config, Echo(), extra=extra_terms(config))
    as_shown, told = loss({}, pair)
    assert set(extra_terms(config)) < set(told)
    assert np.isfinite(float(as_shown))
    perfect = {"input": pair["target"][..., None], "target": pair["target"]}
    assert float(loss({}, perfect)[0]) < float(as_shown)


class Echo:
    """A network that does nothing."""

    def apply(self, variables, image):
        return image[..., :1]


def test_it_trains(tmp_path):
    optimizer = OptimizerConfig(name="adam", learning_rate=1e-3)
    config = configured("split", channels=(4,), patch_px=16, steps=2, optimizer=optimizer)
    module = network_of(config)
    params = train_pairs(config, tmp_path / "run", module, make_batches(config), extra=extra_terms(config))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert module.apply({"params": params}, np.ones((1, 16, 16, 2), np.float32)).shape == (1, 16, 16, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "clear"}, "mode"),
        ({"patch_px": 30, "channels": (4, 8, 16)}, "multiple of 4"),
        ({"patch_px": 8}, "from 16 on"),
        ({"photons": (5.0, 3.0)}, "photons as 0 < low <= high"),
        ({"abbe_px": (0.0, 3.0)}, "abbe_px as 0 < low <= high"),
        ({"read_noise": -1.0}, "read_noise"),
        ({"recorruption": 0.0}, "recorruption"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(configured("clean"), **changes)


@pytest.mark.parametrize("loss", [CLEAN_LOSS, PairLossConfig(ssim=0.1, l1=0.0, l2=1.0)])
def test_errors_that_are_unfair_to_noisy_targets_are_refused(loss):
    with pytest.raises(ValueError, match="squared errors alone"):
        configured("split", loss=loss)


def test_noise_that_cannot_be_is_refused(rng):
    image = np.ones((40, 40))
    with pytest.raises(ValueError, match="photons"):
        noise_channel(image, photons=0.0, dark_variance=0.0)
    with pytest.raises(ValueError, match="dark_variance"):
        noise_channel(image, photons=1.0, dark_variance=-1.0)
    with pytest.raises(ValueError, match="one shape"):
        recorrupt(rng, image, noise=image[:-1])
    with pytest.raises(ValueError, match="strength"):
        recorrupt(rng, image, noise=image, strength=0.0)
