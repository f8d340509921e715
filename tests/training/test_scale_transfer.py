"""Scale transfer: measured images as objects. What is scored is as much a measurement as what is seen."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage, signal

from dps_jax.optics.psf import airy_psf
from dps_jax.training.config import FolderConfig
from dps_jax.training.data import make_batches
from dps_jax.training.folder import FolderPatches
from dps_jax.training.psf_bank import PsfBank
from dps_jax.training.scale_transfer import Measured, other_camera, shrunken_pairs

SIDE = 2 * 32 + 16  # fine pixels under a patch of 32 px, and the margin of 8 around them


@pytest.fixture(scope="module")
def bank():
    return PsfBank(2.5, 0.0)


@pytest.fixture(scope="module")
def noiseless(make_config):
    """So many photons that noise is out of sight."""
    scenes = {"photons": (1e7, 1e7), "brightness": (1.0, 1.0), "read_noise": 0.0, "pedestal": 0.0}
    return make_config(scenes=scenes).scenes


@pytest.fixture(scope="module")
def batch(make_config):
    return make_batches(make_config(batch=8, objective={"shrunk_share": 0.5}))


def test_a_batch_holds_both_tasks_and_no_truth(batch):
    shapes = {k: v.shape for k, v in batch(0).items()}
    assert shapes == {
        "input": (4, 32, 32),
        "target": (4, 32, 32),
        "photons": (4,),
        "shrunk_input": (4, 32, 32),
        "shrunk_target": (4, 64, 64),
        "shrunk_photons": (4,),
    }
    assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in batch(0).values())


def test_a_batch_is_a_function_of_config_and_step(batch):
    first, again, other = batch(3), batch(3), batch(4)
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not any(np.array_equal(first[k], other[k]) for k in first)


def test_the_whole_batch_may_be_one_task(make_config):
    batch = make_batches(make_config(objective={"shrunk_share": 1.0}))(0)
    assert set(batch) == {"shrunk_input", "shrunk_target", "shrunk_photons"}


def test_a_pair_is_an_object_and_its_photograph(rng, bank, noiseless):
    # An object with a margin, photographed by hand with SciPy.
    thing = ndimage.gaussian_filter((rng.random((SIDE, SIDE)) < 0.02) * 1.0, 1.0)
    ((seen, target, photons),) = shrunken_pairs([rng], [Measured(thing, thing)], noiseless, bank)
    padded = np.pad(thing, 60, mode="symmetric")
    blurred = signal.fftconvolve(padded, np.asarray(airy_psf(abbe_px=5.0), np.float64), mode="same")
    expected = blurred[68:-68, 68:-68].reshape(32, 2, 32, 2).sum((1, 3))
    scale = 1 / expected.max()
    # 1e7 photons at intensity 1: relative noise of 3e-4 there; 5 standard deviations and float32 FFTs.
    assert np.abs(seen - scale * expected).max() < 2e-3
    assert np.abs(target - scale * thing[8:-8, 8:-8]).max() < 1e-4 * target.max()
    assert photons == pytest.approx(1e7)


def test_input_and_target_hold_independent_noise(bank, noiseless):
    # A flat object: the blurred half and the scored half share no photon, so their noise is uncorrelated.
    rng = np.random.default_rng(2)
    halves = [Measured(*(rng.poisson(50.0, (2, SIDE, SIDE)) / 50.0)) for _ in range(8)]
    pairs = shrunken_pairs([rng] * 8, halves, noiseless, bank)
    a = np.stack([seen - seen.mean() for seen, _, _ in pairs])
    b = np.stack([t.reshape(32, 2, 32, 2).sum((1, 3)) for _, t, _ in pairs])
    b -= b.mean((1, 2), keepdims=True)
    # The input is blurred over an Airy disc, some 10 px: so many fewer independent numbers.
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size / 10)
    for seen, target, _ in pairs:
        assert seen.mean() == pytest.approx(4 * target.mean(), rel=0.01)


def test_a_dark_image_makes_a_dark_pair(rng, bank, noiseless):
    dark = np.zeros((SIDE, SIDE))
    ((seen, target, _),) = shrunken_pairs([rng], [Measured(dark, dark)], noiseless, bank)
    assert not seen.any()
    assert not target.any()
    assert shrunken_pairs([], [], noiseless, bank) == []


def test_the_bank_holds_the_canonical_microscope_and_its_errors(rng, bank):
    assert np.allclose(bank.draw(rng), airy_psf(abbe_px=5.0), atol=1e-6)
    wrong = PsfBank(2.5, 0.05)
    drawn = [wrong.draw(rng) for _ in range(400)]
    assert {k.shape for k in drawn} == {(bank.size, bank.size)}
    assert np.allclose([k.sum() for k in drawn], 1, atol=1e-5)
    # The middle of a kernel of unit sum goes as 1 / period^2: 10 % spread for 5 % error, known to 1 / sqrt(800).
    middle = np.array([k[bank.size // 2, bank.size // 2] for k in drawn])
    assert middle.std() / middle.mean() == pytest.approx(0.1, rel=0.25)


@pytest.mark.parametrize("shrinkage", [2.0, 4.0, 8.0])
def test_a_shrunken_image_is_as_sharp_as_its_optics_then_are(bank, shrinkage):
    kernel = bank.sharp(shrinkage)
    assert kernel.shape == (bank.sharp_size,) * 2
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    # An Abbe period of 5 fine px, `shrinkage` times smaller; the bank's steps are 5 %.
    for wrong, least in ((1.0, 0.0), (1.2, 0.005), (1 / 1.2, 0.005)):
        expected = airy_psf(abbe_px=wrong * 5 / shrinkage, size=bank.sharp_size)
        difference = np.abs(kernel - expected).max()
        assert difference >= least
        assert wrong != 1 or difference < 0.06 * kernel.max()


def test_another_cameras_pixels_colour_the_noise_and_nothing_else(rng, make_config):
    expected = np.full((64, 64), 50.0)
    counts = rng.poisson(expected)
    always, never = (make_config(scenes={"other_cameras": share}).scenes for share in (1.0, 0.0))
    assert other_camera(rng, counts, expected, never) is counts
    seen = np.stack([other_camera(rng, counts, expected, always) for _ in range(20)])
    assert np.allclose(seen.mean((1, 2)), counts.mean(), rtol=1e-6)
    assert np.all(seen.var((1, 2)) < counts.var())


@pytest.mark.parametrize("shape", [(128, 140), (60, 50)])  # the second is smaller than what is asked for
def test_parts_of_a_folders_images_are_measured(tmp_path, rng, make_config, imagej_tiff, shape):
    imagej_tiff(tmp_path / "a.tif", rng.poisson(40.0, shape), 75.0)
    images = FolderConfig(folder=tmp_path, share=1.0, na=1.4, wavelength_nm=525.0, gain=1.0, offset=0.0)
    config = dataclasses.replace(make_config(batch=2, objective={"shrunk_share": 0.5}), images=images)
    measured = FolderPatches(config).measure(rng)
    assert measured.kept.shape == measured.rest.shape == (SIDE, SIDE)
    assert np.isfinite([measured.kept, measured.rest]).all()
    n = min(measured.kept.size, shape[0] * shape[1])
    assert abs(np.corrcoef(measured.kept.ravel(), measured.rest.ravel())[0, 1]) < 5 / np.sqrt(n)
    # Both at full exposure.
    assert measured.kept.mean() == pytest.approx(measured.rest.mean(), rel=5 * np.sqrt(2 / 20 / n))
    assert make_batches(config)(0)["shrunk_target"].shape == (1, 64, 64)
