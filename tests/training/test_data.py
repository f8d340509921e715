"""Training pairs: a function of config and step, two independent exposures of one scene, and no truth."""

import threading

import numpy as np
import pytest

from dps_jax.training.data import ScenePatches, make_batches, prefetch, split


@pytest.fixture(scope="module")
def batches(make_config):
    return {seed: make_batches(make_config(seed=seed)) for seed in (0, 1)}


def same(a, b):
    return all(np.array_equal(a[k], b[k]) for k in a)


def test_a_batch_is_a_function_of_config_and_step(batches, make_config):
    first = batches[0](5)
    batches[0](2)  # another call in between leaves no trace
    assert same(first, batches[0](5))
    assert same(first, make_batches(make_config(seed=0))(5))
    assert not any(np.array_equal(first[k], batches[0](6)[k]) for k in first)
    assert not any(np.array_equal(first[k], batches[1](5)[k]) for k in first)


def test_a_batch_holds_an_input_a_target_and_photons_and_no_truth(batches):
    batch = batches[0](0)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        "input": ((4, 32, 32), np.float32),
        "target": ((4, 32, 32), np.float32),
        "photons": ((4,), np.float32),
    }
    assert all(np.isfinite(v).all() for v in batch.values())
    images = batch["input"]
    assert not any(np.array_equal(images[i], images[j]) for i in range(4) for j in range(i))


def test_prefetch_yields_the_same_batches_in_order(batches):
    for ahead in (1, 2, 5):
        got = list(prefetch(batches[0], 3, 7, ahead=ahead))
        assert len(got) == 4
        assert all(same(a, batches[0](i)) for i, a in zip(range(3, 7), got, strict=True))
    assert list(prefetch(batches[0], 4, 4)) == []


def test_prefetch_runs_ahead_but_not_beyond_the_end():
    asked, main = [], threading.get_ident()

    def batch(step):
        asked.append((step, threading.get_ident() != main))
        return step

    assert list(prefetch(batch, 2, 6, ahead=3)) == [2, 3, 4, 5]
    assert asked == [(i, True) for i in range(2, 6)]


def test_prefetch_passes_an_error_on():
    def batch(step):
        if step == 2:
            raise RuntimeError("no more scenes")
        return step

    got = prefetch(batch, 0, 5)
    assert [next(got), next(got)] == [0, 1]
    with pytest.raises(RuntimeError, match="no more scenes"):
        next(got)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_split_gives_independent_exposures_at_full_scale(rng, share):
    # Binomial thinning of Poisson counts: two independent Poisson images. All tolerances are 5 standard errors.
    mean, n = 20.0, 200_000
    seen, target, fraction = split(rng, rng.poisson(mean, n), share)
    assert fraction == share
    assert abs(np.corrcoef(seen, target)[0, 1]) < 5 / np.sqrt(n)
    for image, kept in ((seen, 1 - share), (target, share)):
        variance = mean / kept
        assert abs(image.mean() - mean) < 5 * np.sqrt(variance / n)
        # The variance of a variance is about 2 variance^2 / n (a little more for Poisson numbers).
        assert abs(image.var() - variance) < 5 * variance * np.sqrt(3 / n)


def test_without_split_input_is_target(rng, make_config):
    counts = rng.poisson(5.0, (8, 8))
    seen, target, fraction = split(rng, counts, None)
    assert np.array_equal(seen, counts)
    assert np.array_equal(target, counts)
    assert fraction == 1.0
    config = make_config(objective={"split_shares": ()}, scenes={"read_noise": 3.0})
    batch = make_batches(config)(0)
    assert np.array_equal(batch["input"], batch["target"])


@pytest.mark.parametrize(("shares", "fraction"), [((0.5,), 0.5), ((0.8,), 0.8), ((), 1.0)])
@pytest.mark.parametrize("read_noise", [0.0, 4.0])
def test_noise_of_a_pair(monkeypatch, make_config, shares, fraction, read_noise):
    # On a flat scene the noise is all there is: its size says what `photons` means, its correlation whether the
    # network could learn to repeat it.
    flat = np.ones((6, 1, 32, 32), np.float32)
    monkeypatch.setattr(ScenePatches, "_expected", lambda *_: flat)
    config = make_config(
        scenes={
            "photons": (40.0, 40.0),
            "brightness": (1.0, 1.0),
            "background": 0.0,
            "read_noise": read_noise,
        },
        objective={"split_shares": shares},
    )
    n = config.scenes.patch_px**2
    patches = ScenePatches(config.scenes, config.objective)
    for seen, target, photons in patches.draw([np.random.default_rng(i) for i in range(6)]):
        assert photons == pytest.approx(40.0 * fraction)
        for image in (seen, target):
            assert abs(image.mean() - 1) < 5 * np.sqrt(image.var() / n)
        if shares:
            assert abs(np.corrcoef(seen.ravel(), target.ravel())[0, 1]) < 5 / np.sqrt(n)
        # Photon noise of `photons` per unit, plus a read noise of variance up to (4 / 40)^2.
        low, spread = 1 / photons, 1 + 5 * np.sqrt(2.5 / n)
        assert low / spread < target.var() < (low + (read_noise / 40) ** 2) * spread


def test_frames_of_a_movie_show_one_scene_in_one_light_with_their_own_photons(make_config):
    quiet = {
        "empty": 0.0,
        "background": 0.0,
        "pedestal": 0.0,
        "other_cameras": 0.0,
        "photons": (500.0, 5000.0),
    }
    config = make_config(
        batch=10,
        scenes={**quiet, "frames": 4, "brightness": (1.0, 1.0), "read_noise": 0.0},
        objective={"shrunk_share": 0.2},
    )
    assert (config.exposures, config.common_parts) == (2, 2)
    batch = make_batches(config)(0)
    assert batch["input"].shape == (8, 32, 32)
    assert batch["shrunk_input"].shape == (2, 32, 32)
    movies = batch["target"].reshape(2, 4, -1).astype(float)
    photons = batch["photons"].reshape(2, 4)
    assert np.all(photons == photons[:, :1])
    assert photons[0, 0] != photons[1, 0]
    within = [np.corrcoef(movie)[0, 1] for movie in movies]
    assert min(within) > 0.8 > abs(np.corrcoef(movies[:, 0])[0, 1])
    # Two frames differ by the photon noise of both, mean / photons in each, and by slow motion.
    for movie, light in zip(movies, photons[:, 0], strict=True):
        noise = (movie[0] + movie[1]).mean() / light
        assert np.mean((movie[0] - movie[1]) ** 2) > 0.8 * noise
    assert same(batch, make_batches(config)(0))


def test_empty_patches_hold_background_only(make_config):
    config = make_config(scenes={"empty": 1.0, "background": 0.0, "pedestal": 0.0, "read_noise": 0.0})
    batch = make_batches(config)(0)
    assert not batch["input"].any()
    assert not batch["target"].any()


def test_a_patch_is_lit_from_outside(make_config):
    # The scene is drawn wider than the patch; a patch cut from a frame with dark surroundings would darken
    # towards its border. Averaged over many patches, rim and middle are alike: the scenes have no preferred place.
    config = make_config(scenes={"empty": 0.0, "background": 0.0, "brightness": (1.0, 1.0)}, batch=64)
    image = make_batches(config)(0)["target"].astype(float)
    rim = np.ones(image.shape[1:], bool)
    rim[3:-3, 3:-3] = False
    ratio = image[:, rim].mean(1) / image[:, ~rim].mean(1)
    # Cropped after blurring a dark surround, the rim (3 px, half the Airy FWHM) would lose a third of its light.
    assert abs(np.median(ratio) - 1) < 0.2
