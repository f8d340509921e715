"""``dps-jax sim`` as a user meets it: files in and out, the report, and one sentence for every mistake."""

import json

import numpy as np
import pytest
import tifffile

from dps_jax.io import read_description
from dps_jax.optics import OpticalSystem
from dps_jax.pipelines.simulate_sim import acquire_sim

SYSTEM = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=65.0)
OPTICS = ("--na", 1.4, "--wavelength-nm", 525)


@pytest.fixture(scope="module")
def acquired():
    return acquire_sim(5001, SYSTEM, shape=(96, 96), photons=500, background=10.0)


@pytest.fixture
def raw(acquired, save):
    return save("raw.tif", acquired.frames.reshape(9, 96, 96).astype(np.uint16), axes="TYX")


def test_a_file_becomes_a_finer_one_with_its_report(cli, raw, acquired, opened):
    done = cli("sim", raw, "-o", "sr.tif", *OPTICS, "--json", "q.json", "--figure", "q.png", "--no-refine")
    assert done.code == 0
    pixels, axes, pixel_nm, _ = opened("sr.tif")
    assert pixels.shape == (192, 192)
    assert axes == "YX"
    np.testing.assert_allclose(pixel_nm, 32.5, rtol=1e-3)
    with open("q.json") as file:
        report = json.load(file)
    light = acquired.frames.mean((0, 1)) - report["background"]
    assert pixels.astype(float).sum() == pytest.approx(float(light.sum()), rel=1e-3)
    periods = [angle["period_px"] for angle in report["angles"]]
    np.testing.assert_allclose(periods, acquired.illumination.period_px, rtol=2e-3)
    assert read_description("sr.tif")["angles"] == report["angles"]
    with open("q.png", "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    assert "angle 3: period" in done.err


def test_orders_of_frames(cli, acquired, save):
    swapped = acquired.frames.swapaxes(0, 1).reshape(9, 96, 96).astype(np.uint16)
    name = save("swapped.tif", swapped, axes="TYX")
    wrong = cli("sim", name, "-o", "sr.tif", *OPTICS, "--no-refine")
    assert wrong.code == 2
    assert "choose the other --frame-order" in wrong.errors[0]
    assert cli("sim", name, "-o", "sr.tif", *OPTICS, "--no-refine", "--frame-order", "phase-major").code == 0


def test_planes_of_one_angle_may_follow_each_other(cli, acquired, save, opened):
    planes = np.stack([acquired.frames, acquired.frames + 5], axis=1)  # angle, plane, phase
    name = save("omx.tif", planes.reshape(18, 96, 96).astype(np.uint16), axes="ZYX", spacing=0.125)
    words = (
        "--frame-order",
        "angle-plane-phase",
        "--no-refine",
        "--method",
        "richardson-lucy",
        "--iterations",
        3,
    )
    assert cli("sim", name, "-o", "sr.tif", *OPTICS, *words).code == 0
    pixels, axes, _, metadata = opened("sr.tif")
    assert (pixels.shape, axes) == ((2, 192, 192), "ZYX")
    assert metadata["spacing"] == pytest.approx(0.125)
    assert pixels.min() >= 0


def test_a_measured_otf_serves(cli, raw, scratch):
    k = np.arange(65) / 128  # half a cycle per px
    s = np.clip(k * float(SYSTEM.abbe_px), 0, 1)
    ideal = 2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s * s))
    tifffile.imwrite(scratch / "otf.tif", ideal.astype(np.float32)[None])
    assert cli("sim", raw, "-o", "a.tif", "--otf", "otf.tif", "--no-refine").code == 0
    assert cli("sim", raw, "-o", "b.tif", *OPTICS, "--no-refine").code == 0
    a, b = (tifffile.imread(scratch / n).astype(float) for n in ("a.tif", "b.tif"))
    # Samples of 1/128 cycle: the curve's own interpolation error, and a cut-off rounded to them.
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.999
    for rubbish in (np.ones((3, 4)), np.zeros((2, 65)), np.eye(64)):
        tifffile.imwrite(scratch / "bad.tif", rubbish.astype(np.float32))
        bad = cli("sim", raw, "-o", "a.tif", "--otf", "bad.tif")
        assert bad.code == 2
        assert "expected an OTF" in bad.errors[0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "expected one TIFF file of raw frames, got 0"),
        (("raw.tif",), "expected an output"),
        (("raw.tif", "-o", "x.png"), "expected the output to be a .tif file"),
        (("raw.tif", "-o", "x.tif", "--na", 1.4), "--wavelength-nm is missing"),
        (("raw.tif", "-o", "x.tif", *OPTICS, "--phases", 4), "3 angles x 4 phases = 12 frames"),
        (("raw.tif", "-o", "x.tif", *OPTICS, "--orders", 2), "expected --orders 1 with 3 or more --phases"),
        (("raw.tif", "-o", "x.tif", *OPTICS, "--method", "magic"), "expected --method to be one of"),
        (("raw.tif", "-o", "x.tif", *OPTICS, "--frame-order", "z"), "expected --frame-order to be one of"),
        (("raw.tif", "-o", "x.tif", *OPTICS, "--notch", 2), "expected --notch from 0 to 1"),
        (("raw.tif", "-o", "x.tif", *OPTICS, "--noise-to-signal", 0), "--noise-to-signal"),
        (("raw.tif", "-o", "x.tif", "--extend"), "--extend needs the optics"),
        (("raw.tif", "-o", "x.tif", "--figure", "x.jpg"), "expected --figure to be a .png file"),
        (("raw.tif", "-o", "x.tif", "--json", "x.tif"), "expected different files"),
        (("raw.tif", "-o", "raw.tif"), "raw.tif"),
    ],
)
def test_mistakes_are_one_sentence(cli, raw, listing, words, sentence):
    before = listing()
    done = cli("sim", *words)
    assert done.code == 2
    assert len(done.errors) == 1
    assert sentence in done.errors[0]
    assert listing() == before


def test_extending_is_told_the_resolution_that_was_reached(cli, scratch):
    """The network gets an image of the extended cut-off: nearer to the truth than the reconstruction itself."""
    from dps_jax.metrics import psnr_at_promised_resolution

    made = acquire_sim(5003, SYSTEM, shape=(96, 96), photons=1000)
    tifffile.imwrite(scratch / "raw.tif", made.frames.reshape(9, 96, 96).astype(np.uint16))
    words = ("--pixel-size-nm", 65, "--background", 0, "--no-refine")
    done = cli("sim", "raw.tif", "-o", "x.tif", *OPTICS, *words, "--extend", "--keep-intermediates")
    assert done.code == 0
    assert "extending: " in done.err
    extended, plain = (tifffile.imread(scratch / n).astype(np.float32) for n in ("x.tif", "x_sim.tif"))
    assert (extended.shape, plain.shape) == ((384, 384), (192, 192))
    binned = extended.reshape(192, 2, 192, 2).sum((1, 3))
    assert binned.sum() == pytest.approx(plain.sum(), rel=0.01)
    abbe_px = 2 * float(SYSTEM.abbe_px) / 1.9
    scores = [
        float(psnr_at_promised_resolution(image, made.truth, abbe_px=abbe_px)) for image in (plain, binned)
    ]
    assert scores[1] > scores[0]
    assert read_description("x.tif")["extend"]["decisions"]


def test_frames_without_stripes_are_refused(cli, save, rng):
    name = save("even.tif", rng.poisson(200.0, (9, 96, 96)).astype(np.uint16), axes="TYX")
    done = cli("sim", name, "-o", "x.tif", *OPTICS)
    assert done.code == 2
    assert "no modulation was found" in done.errors[0]
    cut = cli("sim", name, "-o", "x.tif")
    assert cut.code == 2
    assert "the cut-off of the optics cannot be read" in cut.errors[0]
