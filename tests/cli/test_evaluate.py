"""``dps-jax evaluate``: the scores that the files allow, as table, JSON and picture."""

import json
import re

import numpy as np
import pytest
import tifffile

from dps_jax.operators import camera_image
from dps_jax.optics import airy_psf
from dps_jax.pipelines.compare import invented_texture
from dps_jax.pipelines.misfit import measure_misfit
from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire
from dps_jax.solvers import richardson_lucy

OPTICS = ["--na", "1.4", "--wavelength-nm", "525"]
KEYS = {"psnr_db", "ssim", "nrmse", "frc_nm", "decorrelation_nm", "rsp", "rse", "out_of_band", "misfit"}


@pytest.fixture(scope="module")
def made():
    return acquire(5, DEMO_SYSTEM, shape=(96, 96), photons=200.0)


@pytest.fixture
def place(save, scratch, made):
    """Raw image, results of two exposures, and truth, as files."""
    save("raw.tif", made.image.astype(np.float32))
    for name, image in (("result", made.image), ("repeat", made.repeat)):
        sharp = np.asarray(richardson_lucy(image, made.psf, iterations=60))
        save(f"{name}.tif", sharp, pixel_nm=32.5)
    save("truth.tif", made.truth, pixel_nm=32.5)
    return scratch


def evaluated(cli, place, *words):
    ran = cli("evaluate", "result.tif", "--raw", "raw.tif", "--json", "out.json", *words)
    assert (ran.code, ran.errors) == (0, [])
    return json.loads((place / "out.json").read_text()), ran


def test_all_scores_when_all_is_known(cli, save, place, made):
    save("raw.tif", made.image.astype(np.float32))
    save("again.tif", made.repeat.astype(np.float32))
    scores, ran = evaluated(
        cli, place, "--truth", "truth.tif", "--repeat", "repeat.tif", *OPTICS, "--figure", "out.png"
    )
    # Two results on one grid may agree up to the finest detail in what the method puts there.
    assert set(scores) >= KEYS - {"frc_nm"}
    assert "frc_nm" in scores or "does not fall below 1/7" in ran.out
    assert all(np.isfinite(scores[name]) for name in KEYS & set(scores))
    assert scores["out_of_band"] > scores["raw"]["out_of_band"]
    assert scores["mae"] < scores["raw"]["mae"]
    assert scores["ms_ssim"] > scores["raw"]["ms_ssim"]
    assert scores["psnr_db"] > scores["raw"]["psnr_db"]
    assert 0.9 < scores["rsp"] <= 1
    assert (place / "out.png").read_bytes().startswith(b"\x89PNG")
    assert all(text in ran.out for text in ("PSNR with the truth", "out-of-band"))
    assert "blind" not in ran.out
    # Two exposures as they are: their noise is independent, and the curve falls near the cut-off of 187.5 nm.
    ran = cli("evaluate", "raw.tif", "--raw", "raw.tif", "--repeat", "again.tif", "--json", "out.json")
    assert ran.code == 0
    assert 150 < json.loads((place / "out.json").read_text())["frc_nm"] < 400
    assert "FRC of two independent results" in ran.out


def test_what_cannot_be_had_is_absent_and_said(cli, place):
    scores, ran = evaluated(cli, place)
    assert set(scores) & KEYS == {"decorrelation_nm", "rsp", "rse"}
    assert "blind to invented texture" in " ".join(ran.out.split())
    scores, ran = evaluated(cli, place, "--truth", "truth.tif")
    assert "out_of_band" not in scores
    assert "give --na and --wavelength-nm" in " ".join(ran.out.split())
    # Beyond a cut-off of 62 nm pixels of 32.5 nm show nothing.
    scores, ran = evaluated(cli, place, "--truth", "truth.tif", "--na", "1.4", "--wavelength-nm", "175")
    assert "out_of_band" not in scores
    assert "too coarse for anything beyond the cut-off" in " ".join(ran.out.split())


def test_invented_texture_moves_what_the_note_says(cli, place, made):
    honest, _ = evaluated(cli, place, "--truth", "truth.tif", *OPTICS)
    image = tifffile.imread(place / "result.tif")
    tifffile.imwrite(place / "result.tif", invented_texture(image, abbe_px=187.5 / 32.5))
    faked, _ = evaluated(cli, place, "--truth", "truth.tif", *OPTICS, "--pixel-size-nm", "32.5")
    assert faked["out_of_band"] < honest["out_of_band"] - 0.1
    assert faked["rsp"] > honest["rsp"] - 0.02


def test_what_the_raw_image_tells_of_itself(cli, save, place, made):
    """Its own photons bound the misfit; its own diagonal neighbours, its resolution."""
    options = (*OPTICS, "--gain", "1", "--offset", "0")
    honest, _ = evaluated(cli, place, *options)
    # After 60 steps the fit has taken up some of the noise of 9,216 pixels, and has not taken up structure.
    assert 0.8 < honest["misfit"] < 1.05
    # Seen by the camera, the truth leaves noise alone: 1 +- 0.008 of 7,000 pixels, and what little falls in from far.
    truth = tifffile.imread(place / "truth.tif")
    save("result.tif", truth, pixel_nm=32.5)
    assert evaluated(cli, place, *options)[0]["misfit"] == pytest.approx(1, abs=0.04)
    # In any unit, and with the gain from the image itself.
    save("result.tif", 1e-3 * truth, pixel_nm=32.5)
    assert evaluated(cli, place, *OPTICS)[0]["misfit"] == pytest.approx(1, abs=0.15)
    blurred = np.asarray(richardson_lucy(made.image, made.psf, iterations=1))
    save("result.tif", blurred, pixel_nm=32.5)
    assert evaluated(cli, place, *options)[0]["misfit"] > 1.3
    # No finer than four of its pixels, 260 nm, and a result is not asked.
    assert honest["raw"].get("frc_one_image_nm", 260) >= 260
    assert "frc_one_image_nm" not in honest
    dim = acquire(5, DEMO_SYSTEM, shape=(96, 96), photons=10.0)
    save("raw.tif", dim.image.astype(np.float32))
    scores, ran = evaluated(cli, place)
    assert 260 < scores["raw"]["frc_one_image_nm"] < 2000
    assert "FRC of one image with itself" in ran.out
    scores, ran = evaluated(cli, place, "--na", "1.4", "--wavelength-nm", "175")
    assert "misfit" not in scores
    assert "no misfit in units of the noise, since the gain is unknown" in " ".join(ran.out.split())


def test_the_misfit_of_a_large_and_mostly_dark_image_is_that_of_its_parts():
    # A few bright points in a million dark pixels: a fit in single precision would take them for nothing.
    rng = np.random.default_rng(4)
    truth = np.zeros((1024, 1024), np.float32)
    truth[tuple(rng.integers(40, 984, (2, 60)))] = 3e6
    expected = np.asarray(camera_image(truth, airy_psf(abbe_px=6.0), factor=1, boundary="reflect"))
    raw = rng.poisson(expected + 5).astype(np.float32)
    for unit in (1.0, 1e-4):
        found = measure_misfit(unit * truth, raw, abbe_px=6.0, gain=1.0, offset=0.0)
        # Over the photons' own: a slope off by its standard error of 1e-4 of 3e6 photons adds a percent.
        assert found.ratio == pytest.approx(1, abs=0.03)


def test_stacks_are_averaged_plane_by_plane(cli, save, place, made):
    image = tifffile.imread(place / "result.tif")
    save("result.tif", np.stack([image, image]), axes="TYX", pixel_nm=32.5)
    save("raw.tif", np.stack([made.image, made.image]).astype(np.float32), axes="TYX")
    scores, _ = evaluated(cli, place, "--figure", "out.png")
    assert scores["planes"] == 2
    save("result.tif", image, pixel_nm=32.5)
    ran = cli("evaluate", "result.tif", "--raw", "raw.tif")
    assert (ran.code, ran.out) == (2, "")
    assert "same number of planes, got result 1, raw 2" in ran.errors[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "one result to evaluate, got 0"),
        ("result.tif", "give it with --raw"),
        ("result.tif repeat.tif --raw raw.tif", "one result to evaluate, got 2"),
        ("absent.tif --raw raw.tif", "absent.tif was not found"),
        (
            "result.tif --raw raw.tif --na 1.4",
            "needs both --na and --wavelength-nm; --wavelength-nm is missing",
        ),
        ("result.tif --raw raw.tif --gain 0", "--gain .* above 0, got 0"),
        ("result.tif --raw raw.tif --offset nan", "--offset: expected a number, got 'nan'"),
        ("result.tif --raw raw.tif --pixel-size-nm 0", "--pixel-size-nm .* above 0, got 0"),
        ("result.tif --raw raw.tif --json raw.tif", "the same file as the input"),
        (
            "result.tif --raw raw.tif --json a --figure a",
            "different files for --json and --figure, got a for both",
        ),
        ("raw.tif --raw result.tif", "expected the raw image on the result's grid or coarser"),
        ("result.tif --raw raw.tif --repeat raw.tif", "the repeat to be a result of the same shape"),
    ],
)
def test_refusals(cli, place, listing, words, message):
    before = listing()
    ran = cli("evaluate", *words.split())
    assert (ran.code, ran.out) == (2, "")
    assert re.search(message, ran.errors[-1]), ran.errors[-1]
    assert listing() == before
