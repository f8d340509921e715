"""``dps-jax solve``: every method on files, and what it says when it cannot."""

import re
from functools import partial

import numpy as np
import pytest
import tifffile

from dps_jax.cli.solve import BOUNDARIES, METHODS
from dps_jax.io import read_description, read_image
from dps_jax.operators import camera_image
from dps_jax.operators.convolve import BOUNDARIES as OPERATORS
from dps_jax.optics import airy_psf
from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire
from dps_jax.pipelines.solve import solve
from dps_jax.pipelines.solve_methods import METHODS as SOLVED
from dps_jax.pipelines.solve_methods import Settings
from dps_jax.solvers import poisson_deviance
from dps_jax.training.deep_prior import DeepPrior

OPTICS = ["--na", "1.4", "--wavelength-nm", "525"]


@pytest.fixture
def shallow(monkeypatch):
    """Networks of two levels where five are published: enough for a file to come out, in half the time to compile.

    How well they deblur is tested in tests/training.
    """
    monkeypatch.setattr("dps_jax.pipelines.solve.DeepPrior", partial(DeepPrior, levels=2))


def test_the_command_offers_what_the_pipeline_has():
    assert tuple(SOLVED) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_a_file(cli, save, cell, scratch, shallow, method):
    save("cell.tif", cell)
    blind = method in ("self-deblur", "w-dip")
    short = ["--iterations", "3", "--features", "4", "--kernel-px", "7"] if blind else []
    ran = cli("solve", method, "cell.tif", "-o", "out.tif", *OPTICS, *short)
    assert (ran.code, ran.out, ran.errors) == (0, "", [])
    factor = 1 if method == "rolling-ball" or blind else 2
    result = read_image(scratch / "out.tif")
    assert result.data.shape == tuple(factor * n for n in cell.shape)
    assert result.data.dtype == np.float32
    assert result.pixel_size_nm == pytest.approx(65 / factor, rel=1e-4)
    about = read_description(scratch / "out.tif")
    assert about["operation"] == f"solve {method}"
    without = "none" if method in ("mssr", "rolling-ball") else "srPSF of the optics"
    assert about["psf"] == ("found from the image" if blind else without)
    iterations = {"richardson-lucy": 20, "richardson-lucy-tv": 50, "sparse-hessian": 10}
    assert about["settings"].get("iterations") == (3 if blind else iterations.get(method))
    if blind:
        return  # a fit of 3 steps holds whatever light it holds
    if method not in ("mssr", "rolling-ball"):
        kept = re.search(r"background ([-\d.e+]+); light out/in ([\d.]+)", ran.err)
        assert float(kept[2]) == pytest.approx(1, abs=1e-3)
        light = (cell.astype(float) - float(kept[1])).sum()
        assert float(result.data.sum(dtype=float)) == pytest.approx(light, rel=1e-3)
    if method == "mssr":
        assert any("no amount of light" in note for note in ran.notes)


def test_the_command_offers_the_boundaries_that_there_are():
    assert set(BOUNDARIES) == set(OPERATORS)


def test_richardson_lucy_stops_where_the_photons_are_explained(cli, save, scratch):
    made = acquire(5, DEMO_SYSTEM, shape=(64, 64), photons=300.0, background=20.0)
    save("cell.tif", (2 * made.image + 100).astype(np.float32))
    words = ("solve", "richardson-lucy", "cell.tif", "-o", "out.tif", *OPTICS, "--background", "140")
    camera = ("--until-explained", "--gain", "2", "--offset", "100")
    ran = cli(*words, *camera)
    steps = int(re.search(r"stopped after (\d+) steps, where its photons", ran.err)[1])
    assert ran.code == 0
    assert read_description(scratch / "out.tif")["settings"]["until_explained"]
    result = tifffile.imread(scratch / "out.tif")

    def deviance(estimate):
        seen = camera_image(estimate / 2, made.psf, factor=2, boundary="reflect") + 20
        return float(poisson_deviance(made.image, seen))

    assert deviance(result) <= 1.01  # the light is brought to the input's once more
    # One step fewer would not have been enough, and what is enough is far from the most.
    ran = cli(*words, *camera, "--iterations", str(steps - 1))
    assert f"not explained after {steps - 1} steps, the most that were allowed" in ran.err
    assert 5 < steps < 400
    ran = cli(*words, "--until-explained", "--gain", "2000", "--offset", "100")
    assert "photons in a mean pixel that is too early" in " ".join(ran.err.split())
    coarse = ("--na", "1.4", "--wavelength-nm", "210")
    ran = cli("solve", "richardson-lucy", "cell.tif", "-o", "out.tif", *coarse, "--until-explained")
    assert ran.code == 2
    assert "expected a gain, to know the noise of the photons; it is unknown" in ran.errors[0]


def test_a_method_reads_its_own_numbers_alone(cell):
    plain, told = (
        solve(cell, DEMO_SYSTEM, method="wiener", settings=Settings(until_explained=stop))
        for stop in (False, True)
    )
    assert np.array_equal(plain.image, told.image)
    assert told.notes == ()


def test_what_lies_outside_is_a_choice(cli, save, cell, scratch):
    save("cell.tif", cell)
    found = {}
    for boundary in ("reflect", "constant"):
        assert cli("solve", "wiener", "cell.tif", "-o", "out.tif", *OPTICS, "--boundary", boundary).code == 0
        found[boundary] = tifffile.imread(scratch / "out.tif")
    apart = np.abs(found["reflect"] - found["constant"])
    assert apart[:4].mean() > 10 * apart[60:-60, 60:-60].mean()


def test_stacks_channels_and_several_files(cli, save, cell, scratch):
    save("stack.tif", np.stack([cell, 2 * cell, cell]), axes="TYX")
    save("cell.tif", cell)
    ran = cli("solve", "wiener", "stack.tif", "cell.tif", "-o", "out", "--factor", "1", *OPTICS)
    assert ran.code == 0
    stack, plane = (tifffile.imread(scratch / "out" / f"{n}_wiener.tif") for n in ("stack", "cell"))
    assert stack.shape == (3, *cell.shape)
    assert plane.shape == cell.shape


def test_a_measured_psf_and_what_is_wrong_with_one(cli, save, cell, scratch):
    save("cell.tif", cell)
    good = np.asarray(airy_psf(abbe_px=187.5 / 32.5, size=31))
    words = ("solve", "richardson-lucy", "cell.tif", "-o", "out.tif", *OPTICS, "--psf", "psf.tif")
    save("psf.tif", good, pixel_nm=32.5)
    assert cli(*words).notes == []
    own = tifffile.imread(scratch / "out.tif")
    assert cli(*words[:-2]).code == 0
    # The kernel in the file ends where the srPSF's faint rings go on.
    made = tifffile.imread(scratch / "out.tif")
    assert np.linalg.norm(own - made) < 0.05 * np.linalg.norm(made)
    even = np.pad(good, ((0, 1), (0, 1)))
    for kernel, note in (
        (even, "had an even side and was cut to 31x31"),
        (3 * good, "summed to 3 and was divided by that"),
        (good - 1e-4, "had negative values"),
    ):
        save("psf.tif", kernel.astype(np.float32), pixel_nm=None)
        ran = cli(*words)
        assert ran.code == 0
        assert any("does not state its pixel size; it is taken as 32.50 nm" in said for said in ran.notes)
        assert any(note in said for said in ran.notes)
    broken = good.copy()
    broken[3, 3] = np.nan
    for kernel, message in (
        (broken, "PSF without NaN or infinity"),
        (np.roll(good, 5, 0), "found it 5 px down and 0 px right"),
        (np.stack([good, good]), "a PSF of one plane"),
    ):
        save("psf.tif", kernel.astype(np.float32), axes="YX" if kernel.ndim == 2 else "ZYX", pixel_nm=None)
        ran = cli(*words)
        assert ran.code == 2
        assert message in ran.errors[0]


def test_a_psf_of_other_pixels_is_refused_and_never_overwritten(cli, save, cell, listing):
    save("cell.tif", cell)
    save("psf.tif", np.asarray(airy_psf(abbe_px=187.5 / 65, size=15)))  # on the camera's pixels of 65 nm
    before = listing()
    ran = cli("solve", "wiener", "cell.tif", "-o", "out.tif", *OPTICS, "--psf", "psf.tif")
    assert ran.code == 2
    assert "with the pixels of the result (32.50 nm), got 65.00 nm in psf.tif" in ran.errors[0]
    ran = cli("solve", "wiener", "cell.tif", "-o", "psf.tif", *OPTICS, "--psf", "psf.tif")
    assert ran.code == 2
    assert "the same file as the input psf.tif" in ran.errors[0]
    assert listing() == before
    words = ("solve", "wiener", "cell.tif", "-o", "out.tif", *OPTICS, "--psf", "psf.tif", "--factor", "1")
    assert cli(*words).code == 0


def test_objects_are_not_dimmed_for_noise_that_was_cut_off(cli, save, rng, scratch):
    # A faint object in a dark, noisy field: the negative noise that a method cuts off outweighs it.
    field = rng.normal(100, 5, (64, 64))
    field[30:34, 30:34] += 60
    save("dark.tif", field.astype(np.float32))
    ran = cli("solve", "richardson-lucy", "dark.tif", "-o", "out.tif", *OPTICS, "--background", "100")
    assert ran.code == 0
    assert any("noise outweighs the light" in note for note in ran.notes)
    assert tifffile.imread(scratch / "out.tif")[52:76, 52:76].sum() > 0.7 * 960


@pytest.mark.parametrize(
    "words",
    ["wiener {} cell.tif -o out.tif", "wiener cell.tif -o out.tif {}", "{} -o out.tif wiener cell.tif"],
)
def test_options_stand_anywhere(cli, save, cell, scratch, words):
    save("cell.tif", cell)
    assert cli("solve", *words.format(" ".join(OPTICS)).split()).code == 0
    assert (scratch / "out.tif").exists()


def test_a_blind_method_repeats_and_gives_its_kernel(cli, save, cell, scratch, shallow):
    save("stack.tif", np.stack([cell, cell[::-1]]), axes="TYX")
    words = ("solve", "self-deblur", "stack.tif", "-o", "out.tif", *OPTICS, "--kernel", "kernel.tif")
    short = ("--iterations", "3", "--features", "4", "--kernel-px", "7")
    results = []
    for _ in range(2):
        assert cli(*words, *short).code == 0
        results.append((scratch / "out.tif").read_bytes())
    assert results[0] == results[1]
    kernels = read_image(scratch / "kernel.tif")
    assert kernels.data.shape == (2, 7, 7)
    assert kernels.pixel_size_nm == pytest.approx(65)
    assert kernels.data.min() >= 0
    np.testing.assert_allclose(kernels.data.sum((1, 2)), 1, rtol=1e-5)
    psf = np.asarray(airy_psf(abbe_px=187.5 / 65, size=15))
    save("psf.tif", psf)
    ran = cli("solve", "self-deblur", "stack.tif", "-o", "out.tif", *OPTICS, "--psf", "psf.tif", *short)
    assert ran.code == 0
    about = read_description(scratch / "out.tif")
    assert about["psf"] == "psf.tif"
    assert "kernel_px" not in about["settings"]
    assert about["optics"]["factor"] == 1


def test_a_dark_frame_does_not_lose_the_others(cli, save, cell, scratch, shallow):
    save("stack.tif", np.stack([cell, np.zeros_like(cell)]), axes="TYX")
    short = ("--iterations", "3", "--features", "4", "--kernel-px", "7", "--background", "0")
    ran = cli("solve", "self-deblur", "stack.tif", "-o", "out.tif", *OPTICS, *short, "--kernel", "kernel.tif")
    assert ran.code == 0
    assert any("frame 2 holds nothing above the background" in note for note in ran.notes)
    bright, dark = tifffile.imread(scratch / "out.tif")
    assert bright.max() > 0
    assert not dark.any()
    assert tifffile.imread(scratch / "kernel.tif").shape == (2, 7, 7)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("self-deblur cell.tif -o out.tif --kernel-px 8", "--kernel-px to be odd and 3 or more, got 8"),
        ("self-deblur cell.tif -o out.tif --kernel-px 61", "at least 122 px a side for this kernel"),
        ("w-dip cell.tif -o out.tif --features 0", "--features"),
        ("w-dip cell.tif -o out.tif --seed -1", "--seed from 0 to 4294967295, got -1"),
        ("w-dip cell.tif -o out.tif --seed 4294967296", "--seed from 0 to 4294967295"),
        ("w-dip cell.tif -o out.tif --kernel k.png", "--kernel to be a .tif file, got k.png"),
        ("w-dip cell.tif -o out.tif --psf cell.tif", "no --psf with w-dip"),
        ("wiener cell.tif -o out.tif --kernel k.tif", "--kernel with self-deblur or w-dip and no --psf"),
        ("w-dip cell.tif cell.tif -o out --kernel k.tif", "one file with --kernel, got 2"),
        ("w-dip cell.tif -o out.tif --kernel out.tif", "--kernel and -o to be two files"),
        ("wiener cell.tif -o out.tif --background 1e4", "nothing above 10000; check --background"),
        ("", "expected a method and a TIFF file, got nothing"),
        ("lucy cell.tif -o out.tif", "a method among richardson-lucy, .*, got 'lucy'; name it first"),
        ("wiener -o out.tif", "at least one TIFF file, got none"),
        ("wiener cell.tif", "expected an output, got none"),
        ("wiener absent.tif -o out.tif", "absent.tif was not found"),
        ("wiener cell.tif -o cell.tif", "the same file as the input"),
        ("wiener cell.tif -o out.tif --noise-to-signal 0", "--noise-to-signal .* above 0, got 0"),
        ("tikhonov cell.tif -o out.tif --weight -1", "--weight .* above 0, got -1"),
        ("mssr cell.tif -o out.tif --order -1", "--order to be 0 or more, got -1"),
        ("wiener cell.tif -o out.tif --factor 0", "--factor"),
        ("richardson-lucy cell.tif -o out.tif --iterations 0", "--iterations"),
        ("wiener cell.tif -o out.tif --until-explained", "with richardson-lucy, got it with wiener"),
        ("wiener cell.tif -o out.tif --boundary zero", "--boundary .* got 'zero'"),
        ("richardson-lucy cell.tif -o out.tif --gain 0", "--gain .* above 0, got 0"),
        ("richardson-lucy-tv cell.tif -o out.tif --tv-weight -1", "--tv-weight"),
        ("wiener cell.tif -o out.tif --psf absent.tif", "absent.tif was not found"),
        ("wiener a.tif b.tif -o out", "2 of 2 files could not be solved"),
    ],
)
def test_refusals(cli, save, cell, listing, words, message):
    save("cell.tif", cell)
    before = listing()
    ran = cli("solve", *words.split(), *OPTICS)
    assert ran.code == 2
    assert re.search(message, ran.errors[-1]), ran.errors[-1]
    assert listing() == before


def test_optics_are_needed(cli, save, cell):
    save("cell.tif", cell)
    ran = cli("solve", "wiener", "cell.tif", "-o", "out.tif", "--na", "1.4")
    assert ran.code == 2
    assert "give --wavelength-nm" in ran.errors[0]
