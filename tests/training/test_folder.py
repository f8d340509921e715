"""Training on a user's own images: photons at the canonical sampling, or a sentence that says what is missing."""

import grain
import numpy as np
import pytest

from dps_jax.io import UserError
from dps_jax.metrics.noise import PhotonScale
from dps_jax.training.config import FolderConfig
from dps_jax.training.data import make_batches
from dps_jax.training.folder import FolderPatches
from dps_jax.training.planes import plane_in_photons

OPTICS = {"na": 1.4, "wavelength_nm": 525.0}
ABBE_NM = 525.0 / 2.8


@pytest.fixture
def config_for(make_config, tmp_path):
    def make(shares=(0.5, 0.8), **images):
        settings = {"folder": tmp_path, "share": 1.0, **OPTICS, **images}
        return make_config(images=FolderConfig(**settings), objective={"split_shares": shares})

    return make


@pytest.mark.parametrize("pixel_size_nm", [50.0, 75.0, 100.0])
@pytest.mark.parametrize("shares", [(0.5,), (0.8,), ()])
def test_patches_hold_the_photons_of_the_images(
    tmp_path, rng, config_for, imagej_tiff, pixel_size_nm, shares
):
    image = 3.0 * rng.poisson(40.0, (96, 80)) + 100
    for name in ("a.tif", "b.TIFF"):
        imagej_tiff(tmp_path / name, image, pixel_size_nm)
    patches = FolderPatches(config_for(shares, gain=3.0, offset=100.0))
    assert len(patches.planes) == 2
    factor = 2.5 * pixel_size_nm / ABBE_NM
    share = shares[0] if shares else 1.0
    # The background, here all of the image, is split with the rest and taken off afterwards; as a constant it is known.
    level, other = (plane.level for plane in patches.planes)
    assert level == other
    assert 36 < level < 40
    for seen, target, photons in (patches.draw(rng) for _ in range(10)):
        assert seen.shape == target.shape == (32, 32)
        # Photons of a canonical pixel, whose area is 1 / factor^2 camera pixels. 5 standard errors.
        n = (32 / factor) ** 2 * 40
        for image, kept in ((seen, 1 - share if shares else 1.0), (target, share)):
            found = image.mean() * photons / share * factor**2
            assert found + level == pytest.approx(40, rel=5 / np.sqrt(n * kept))


def test_gain_and_offset_are_estimated_where_not_given(tmp_path, rng, config_for, imagej_tiff, blobs):
    expected = 60 * blobs(rng, (160, 160))
    imagej_tiff(tmp_path / "a.tif", 2.0 * rng.poisson(expected) + 100, 65.0)
    plane = FolderPatches(config_for()).planes[0]
    # As good as the estimate of the gain is: 15 % (tests/metrics/test_noise.py).
    assert plane.photons.mean() == pytest.approx(expected.mean(), rel=0.15)
    half = FolderPatches(config_for(offset=100.0)).planes[0]
    assert half.photons.mean() == pytest.approx(expected.mean(), rel=0.15)
    assert np.array_equal(plane.photons, np.rint(plane.photons))


def test_batches_mix_folder_and_scenes(tmp_path, rng, config_for, imagej_tiff, blobs):
    imagej_tiff(tmp_path / "a.tif", 2.0 * rng.poisson(50 * blobs(rng, (96, 96))) + 100, 65.0)
    for share in (0.0, 0.5, 1.0):
        batch = make_batches(config_for(gain=2.0, offset=100.0, share=share))
        first, again = batch(3), batch(3)
        assert all(np.array_equal(first[k], again[k]) for k in first)
        assert first["input"].shape == (4, 32, 32)
        assert set(first) == {"input", "target", "photons"}
        assert not np.array_equal(first["input"], first["target"])


def test_a_folder_larger_than_the_memory_gives_the_same_batches(
    tmp_path, rng, config_for, imagej_tiff, blobs
):
    for name in "abcd":  # a plane is 96 x 96 numbers of 8 bytes, a file two of them: 147 kB
        imagej_tiff(tmp_path / f"{name}.tif", 2.0 * rng.poisson(50 * blobs(rng, (96, 96))) + 100, 65.0)
    imagej_tiff(tmp_path / "e.tif", rng.poisson(30.0, (2, 96, 96)), 65.0)
    whole, part = (FolderPatches(config_for(memory_gb=gb)) for gb in (1.0, 2e5 / 1e9))
    assert len(whole.planes) == len(part.planes) == 6
    read = []
    part.planes._pixels = lambda path, usual=part.planes._pixels: read.append(path.name) or usual(path)
    for i in range(12):
        one, other = (patches.draw(np.random.default_rng(i)) for patches in (whole, part))
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        assert sum(p.nbytes for planes in part.planes._kept.values() for p in planes) <= 2e5
    assert len(read) > 4
    assert len(whole.planes._kept) == 5
    # For Grain, a sequence of planes is a source.
    assert grain.MapDataset.source(part.planes)[1].brightest == part.planes[1].brightest
    assert [plane.level for plane in part.planes[1:3]] == [whole.planes[i].level for i in (1, 2)]


def test_planes_of_a_stack_are_images_of_their_own(tmp_path, rng, config_for, imagej_tiff):
    imagej_tiff(tmp_path / "stack.tif", rng.poisson(30.0, (3, 64, 64)), 75.0)
    assert len(FolderPatches(config_for(gain=1.0, offset=0.0)).planes) == 3


def test_the_pixel_size_can_be_given(tmp_path, rng, config_for, imagej_tiff):
    imagej_tiff(tmp_path / "a.tif", rng.poisson(30.0, (64, 64)), None)
    plane = FolderPatches(config_for(gain=1.0, offset=0.0, pixel_size_nm=75.0)).planes[0]
    assert plane.factor == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("shape", "pixel_size_nm", "settings", "message"),
    [
        ((64, 64), None, {}, "no pixel size found in .*a.tif: give images.pixel_size_nm"),
        ((64, 64), 75.0, {"na": None}, "give images.na and images.wavelength_nm"),
        ((64, 64), 75.0, {"wavelength_nm": None}, "give images.na and images.wavelength_nm"),
        ((64, 30), 75.0, {}, r"images of at least 33 px a side .* got \(64, 30\) in .*a.tif"),
        ((48, 48), 37.5, {}, r"images of at least 65 px a side .* got \(48, 48\)"),
    ],
)
def test_refuses(tmp_path, rng, config_for, imagej_tiff, shape, pixel_size_nm, settings, message):
    imagej_tiff(tmp_path / "a.tif", rng.poisson(30.0, shape), pixel_size_nm)
    with pytest.raises(UserError, match=message):
        FolderPatches(config_for(gain=1.0, offset=0.0, **settings))


def test_refuses_a_folder_without_images(tmp_path, config_for):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(UserError, match="expected TIFF files in the folder"):
        FolderPatches(config_for())


def test_refuses_a_broken_image(tmp_path, config_for):
    (tmp_path / "a.tif").write_bytes(b"II*\0 and no more")
    with pytest.raises(UserError, match=r"a\.tif"):
        FolderPatches(config_for())


@pytest.mark.parametrize("finer", [2, 5])
def test_brightness_does_not_depend_on_the_pixel(rng, finer):
    # A bar of 30 photons per canonical pixel on a background of 10, on that pixel and on smaller ones.
    planes = []
    for split in (1, finer):
        scene = np.full((64 * split, 64 * split), 10.0)
        scene[24 * split : 40 * split, 24 * split : 40 * split] += 30
        counts = rng.poisson(scene / split**2).astype(float)
        planes.append(plane_in_photons(counts, PhotonScale(1.0, 0.0), factor=1 / split, abbe_px=2.5 * split))
    coarse, fine = planes
    assert fine.brightest * finer**2 == pytest.approx(coarse.brightest, rel=0.15)
    assert fine.level * finer**2 == pytest.approx(coarse.level, abs=1.5)
