"""``dps-jax evaluate``: the scores that the files allow, as table, JSON and picture."""

import json
import re

import numpy as np
import pytest
import tifffile

from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire
from dps_jax.solvers import richardson_lucy

OPTICS = ["--na", "1.4", "--wavelength-nm", "525"]
KEYS = {"psnr_db", "ssim", "nrmse", "frc_nm", "decorrelation_nm", "rsp", "rse", "out_of_band"}


@pytest.fixture(scope="module")
def made():
    return acquire(3, DEMO_SYSTEM, shape=(64, 64), photons=300.0)


@pytest.fixture
def place(save, scratch, made):
    """Raw image, results of two exposures, and truth, as files."""
    save("raw.tif", made.image.astype(np.float32))
    for name, image in (("result", made.image), ("repeat", made.repeat)):
        sharp = np.asarray(richardson_lucy(image, made.psf, iterations=15))
        save(f"{name}.tif", sharp, pixel_nm=32.5)
    save("truth.tif", made.truth, pixel_nm=32.5)
    return scratch


def evaluated(cli, place, *words):
    ran = cli("evaluate", "result.tif", "--raw", "raw.tif", "--json", "out.json", *words)
    assert (ran.code, ran.errors) == (0, [])
    return json.loads((place / "out.json").read_text()), ran


def test_all_scores_when_all_is_known(cli, place):
    scores, ran = evaluated(
        cli, place, "--truth", "truth.tif", "--repeat", "repeat.tif", *OPTICS, "--figure", "out.png"
    )
    assert set(scores) >= KEYS
    assert all(np.isfinite(scores[name]) for name in KEYS)
    assert scores["out_of_band"] > scores["raw"]["out_of_band"]
    assert scores["psnr_db"] > scores["raw"]["psnr_db"]
    assert 0.9 < scores["rsp"] <= 1
    assert (place / "out.png").read_bytes().startswith(b"\x89PNG")
    assert all(text in ran.out for text in ("PSNR with the truth", "out-of-band", "FRC of two independent"))
    assert "blind" not in ran.out


def test_what_cannot_be_had_is_absent_and_said(cli, place):
    scores, ran = evaluated(cli, place)
    assert set(scores) & KEYS == {"decorrelation_nm", "rsp", "rse"}
    assert "blind to invented texture" in " ".join(ran.out.split())
    scores, ran = evaluated(cli, place, "--truth", "truth.tif")
    assert "out_of_band" not in scores
    assert "give --na and --wavelength-nm" in " ".join(ran.out.split())


def test_invented_texture_moves_what_the_note_says(cli, place, made):
    honest, _ = evaluated(cli, place, "--truth", "truth.tif", *OPTICS)
    image = tifffile.imread(place / "result.tif")
    noise = np.random.default_rng(0).normal(0, 0.5, image.shape) * image
    tifffile.imwrite(place / "result.tif", np.maximum(image + noise, 0).astype(np.float32))
    faked, _ = evaluated(cli, place, "--truth", "truth.tif", *OPTICS, "--pixel-size-nm", "32.5")
    assert faked["out_of_band"] < honest["out_of_band"] - 0.1
    assert faked["rsp"] > honest["rsp"] - 0.02


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
        ("result.tif --raw raw.tif --pixel-size-nm 0", "--pixel-size-nm .* above 0, got 0"),
        ("result.tif --raw raw.tif --json raw.tif", "the same file as the input"),
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
