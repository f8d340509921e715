"""One wrong input per line: exit code 2, one sentence with its key fact, and nothing written."""

import re

import numpy as np
import pytest
import tifffile

from dps_jax.io.parameters import write_parameters

OPTICS = ["--na", "1.4", "--wavelength-nm", "525"]
PLANE = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)


def _with(value):
    data = PLANE.copy()
    data[3, 4] = value
    return data


DATA = {  # pixels of a file of 65 nm per pixel, and what is said
    "one line": (PLANE[:1], "single line of 64 values"),
    "five axes": (np.ones((2, 2, 2, 16, 16), np.uint8), "5 axes .* 2 to 4"),
    "complex": (PLANE.astype(np.complex64), "complex64"),
    "nan": (_with(np.nan), "1 values that are NaN or infinite, the first at y 3, x 4"),
    "infinity": (_with(np.inf), "1 values that are NaN or infinite"),
    "zeros": (np.zeros((64, 64), np.uint16), "all its pixels are zero"),
    "constant": (np.full((64, 64), 7, np.uint16), "all its pixels are 7"),
    "15 px": (PLANE[:15, :40], "at least 16 px a side, got 15x40 px"),
}
CONTENT = {  # bytes of a file, and what is said
    "no bytes": (b"", "empty file of 0 bytes"),
    "text": (b"intensity\n1\n2\n", "not a TIFF"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(99), "not a TIFF .*PNG"),
}
FLAGS = {  # options beside a good image and good optics, and what is said
    "na above the index": ("--na 1.6", "--na .* 1.6 above 1.515"),
    "na above air": ("--refractive-index 1.0", "1.4 above 1; check --na and --refractive-index"),
    "na zero": ("--na 0", "--na to be a finite number above 0, got 0"),
    "na negative": ("--na -1.4", "--na to be a finite number above 0, got -1.4"),
    "na text": ("--na oil", "--na: expected a number, got 'oil'"),
    "na nan": ("--na nan", "--na: expected a number, got 'nan'"),
    "na forgotten": ("--na", "expected a value after --na"),
    "wavelength zero": ("--wavelength-nm 0", "--wavelength-nm .* above 0, got 0"),
    "wavelength negative": ("--wavelength-nm -525", "--wavelength-nm .* above 0, got -525"),
    "pixel zero": ("--pixel-size-nm 0", "--pixel-size-nm .* above 0, got 0"),
    "pixel negative": ("--pixel-size-nm -65", "--pixel-size-nm .* above 0, got -65"),
    "pixel beyond the Abbe period": (
        "--pixel-size-nm 188",
        r"188 nm, longer than the Abbe period .*\(187.5 nm\)",
    ),
    "pixel in micrometres": ("--pixel-size-nm 0.065", "only 4.16 nm wide .* in nanometres"),
    "index zero": ("--refractive-index 0", "--refractive-index .* above 0, got 0"),
    "index negative": ("--refractive-index -1", "--refractive-index .* above 0, got -1"),
    "modulation zero": ("--modulation 0", "--modulation .* above 0, got 0"),
    "modulation negative": ("--modulation -2", "--modulation .* above 0, got -2"),
    "output pixel zero": ("--output-pixel-size-nm 0", "--output-pixel-size-nm .* above 0, got 0"),
    "output pixel negative": ("--output-pixel-size-nm -5", "--output-pixel-size-nm .* above 0, got -5"),
    "output pixel too coarse": ("--output-pixel-size-nm 190", "at most 187.5, the Abbe period .* got 190"),
    "output pixel too fine": (
        "--output-pixel-size-nm 0.001",
        r"needs .* TB of memory even in the smallest tiles, .* or take a coarser --output-pixel-size-nm",
    ),
    "radius zero": ("--background-radius-nm 0", "--background-radius-nm .* above 0, got 0"),
    "radius negative": ("--background-radius-nm -500", "--background-radius-nm .* above 0, got -500"),
    "radius in pixels": ("--background-radius-nm 50", "got 50, less than a pixel of 65 nm"),
    "background above all": (
        "--background 1e6",
        r"nothing above the background of 1e\+06; check --background",
    ),
    "background infinite": ("--background inf", "--background: expected a number, got 'inf'"),
    "gain zero": ("--gain 0", "--gain .* above 0, got 0"),
    "gain negative": ("--gain -2", "--gain .* above 0, got -2"),
    "offset infinite": ("--offset inf", "--offset: expected a number, got 'inf'"),
    "steady negative": ("--steady-frames -1", "--steady-frames to be 0 or more, got -1"),
    "steady image": ("--steady-frames 2", r"--steady-frames needs a movie .* got axes YX"),
    "adapt negative": ("--adapt -1", "--adapt to be 0 or more, got -1"),
    "three orientations": ("--orientations 3", "--orientations to be 1, 2, 4 or 8, got 3"),
    "tile zero": ("--tile-px 0", "--tile-px .* 1 or more, got 0"),
    "tile negative": ("--tile-px -64", "--tile-px .* 1 or more, got -64"),
    "tile fraction": ("--tile-px 1.5", "--tile-px: expected a whole number, got '1.5'"),
    "unknown option": ("--wavelenght-nm 525", "unknown option --wavelenght-nm; did you mean --wavelength-nm"),
    "two wavelengths at once": ("--wavelength-nm 525 600", "unknown word 600"),
    "three wavelengths": ("--wavelength-nm 525 --wavelength-nm 600", r"each of the 1 channel\(s\), got 3"),
    "no weights": ("--weights absent.safetensors", "cannot read the weights file absent.safetensors"),
    "image as weights": ("--weights cell.tif", "cell.tif is not a weights file of dps-jax"),
    "weights of the future": (
        "--weights future.safetensors",
        "format version 99, but this dps-jax reads version 1",
    ),
}
OUTPUTS = {  # words beside good optics, and what is said
    "no input": ("-o out.tif", "at least one TIFF file, got none"),
    "no output": ("cell.tif", "expected an output, got none; give .* with -o"),
    "output forgotten": ("cell.tif -o", "expected a value after -o"),
    "missing input": ("absent.tif -o out.tif", "absent.tif was not found"),
    "folder as input": ("folder -o out.tif", "folder is a folder, but one TIFF file was expected"),
    "png": ("cell.tif -o out.png", "a .tif file or a folder, got out.png"),
    "one file for two": (
        "cell.tif folder/cell_restored.tif -o out.tif",
        "a folder for 2 results, .* out.tif",
    ),
    "parent missing": ("cell.tif -o absent/out.tif", "absent of the output absent/out.tif does not exist"),
    "parent is a file": ("cell.tif -o cell.tif/out.tif", "cell.tif is a file"),
    "folder in a file": (
        "cell.tif -o cell.tif/out",
        "expected cell.tif/out to be a folder, but cell.tif is a file",
    ),
    "output is the input": ("cell.tif -o cell.tif", "the same file as the input cell.tif"),
    "other spelling": ("cell.tif -o folder/../cell.tif", "the same file as the input cell.tif"),
    "link to the input": ("cell.tif -o link.tif", "link.tif is the same file as the input cell.tif"),
    "input by a link": ("link.tif -o cell.tif", "cell.tif is the same file as the input link.tif"),
    "in a folder": (
        "folder/cell.tif folder/cell_restored.tif -o folder",
        "cell_restored.tif is the same file as the input folder/cell_restored.tif",
    ),
    "one name twice": (
        "cell.tif folder/cell.tif -o out",
        "different names, got cell.tif and folder/cell.tif",
    ),
    "one file twice": ("cell.tif cell.tif -o out", "different names"),
    "names by capitals": ("cell.tif folder/CELL.TIF -o out", "different names"),
    "all missing": ("a.tif b.tif -o out", "2 of 2 files could not be restored"),
}


@pytest.fixture
def place(save, scratch, cell, listing):
    """The working folder of all these commands."""
    save("cell.tif", cell)
    (scratch / "folder").mkdir()
    for name in ("cell.tif", "CELL.TIF", "cell_restored.tif"):
        save(f"folder/{name}", cell)
    (scratch / "link.tif").symlink_to("cell.tif")
    write_parameters(
        scratch / "future.safetensors", {"a": np.zeros(3, np.float32)}, header={"format_version": 99}
    )
    return scratch


def _refused(ran, message, before, after):
    assert ran.code == 2
    assert len(ran.errors) >= 1
    last = ran.errors[-1]
    assert re.search(message, last), last
    assert last.endswith(".")
    assert "Traceback" not in ran.err
    assert ran.out == ""
    assert after == before


@pytest.mark.parametrize("case", DATA)
def test_images(cli, scratch, listing, case):
    data, message = DATA[case]
    tifffile.imwrite(scratch / "a.tif", data, photometric="minisblack")
    before = listing()
    ran = cli("restore", "a.tif", "-o", "out.tif", "--pixel-size-nm", "65", *OPTICS)
    _refused(ran, message, before, listing())
    assert len(ran.errors) == 1
    assert "a.tif" in ran.errors[0]


@pytest.mark.parametrize("case", CONTENT)
def test_contents(cli, scratch, listing, case):
    content, message = CONTENT[case]
    (scratch / "a.tif").write_bytes(content)
    before = listing()
    _refused(cli("restore", "a.tif", "-o", "out.tif", *OPTICS), message, before, listing())


def test_photograph(cli, scratch, listing):
    tifffile.imwrite(scratch / "a.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    before = listing()
    _refused(cli("restore", "a.tif", "-o", "out.tif", *OPTICS), "colour", before, listing())


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.99])
def test_truncated(cli, place, listing, kept):
    content = (place / "cell.tif").read_bytes()
    (place / "cell.tif").write_bytes(content[: int(kept * len(content))])
    before = listing()
    _refused(cli("restore", "cell.tif", "-o", "out.tif", *OPTICS), "cut short", before, listing())


@pytest.mark.parametrize("case", FLAGS)
def test_flags(cli, place, listing, case):
    words, message = FLAGS[case]
    before = listing()
    # The wrong value comes last, and the last one counts; the wavelength is one that is repeated instead.
    ran = cli("restore", "cell.tif", "-o", "out.tif", *OPTICS, *words.split())
    _refused(ran, message, before, listing())
    assert len(ran.errors) == 1


@pytest.mark.parametrize("case", OUTPUTS)
def test_outputs(cli, place, listing, case):
    words, message = OUTPUTS[case]
    before = listing()
    _refused(cli("restore", *words.split(), *OPTICS), message, before, listing())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --na and --wavelength-nm"),
        (["--na", "1.4"], r"must be known; give --wavelength-nm"),
        (["--wavelength-nm", "525"], r"must be known; give --na\."),
    ],
)
def test_missing_optics(cli, place, listing, words, message):
    before = listing()
    _refused(cli("restore", "cell.tif", "-o", "out.tif", *words), message, before, listing())


@pytest.mark.parametrize("resolution", [None, (72, 72)])
def test_missing_pixel_size(cli, scratch, cell, listing, resolution):
    """A screen's 72 dots per inch, which most programs write, is no pixel size either."""
    options = {} if resolution is None else {"resolution": resolution, "resolutionunit": "INCH"}
    tifffile.imwrite(scratch / "a.tif", cell, **options)
    before = listing()
    ran = cli("restore", "a.tif", "-o", "out.tif", *OPTICS)
    _refused(ran, "a.tif does not state its pixel size; give it with --pixel-size-nm", before, listing())


def test_the_old_result_survives_a_refused_run(cli, place):
    (place / "out.tif").write_bytes(b"an earlier result")
    assert cli("restore", "cell.tif", "-o", "out.tif", *OPTICS, "--background", "1e6").code == 2
    assert (place / "out.tif").read_bytes() == b"an earlier result"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "usage: dps-jax COMMAND"),
        (
            ["restoer"],
            "unknown command 'restoer'; expected one of restore, train, simulate, solve, sim, register, evaluate, demo",
        ),
        (["--verbose"], "unknown command '--verbose'"),
    ],
)
def test_commands(cli, words, message):
    ran = cli(*words)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


@pytest.mark.parametrize(
    "problem", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")]
)
def test_too_little_memory(cli, place, monkeypatch, problem):
    def fail(*_):
        raise problem

    monkeypatch.setattr("dps_jax.cli.restore.run", fail)
    ran = cli("restore", "cell.tif", "-o", "out.tif", *OPTICS)
    assert ran.code == 2
    assert "not enough memory" in ran.errors[0]
    assert "--tile-px" in ran.errors[0]


def test_a_bug_is_not_dressed_up_as_the_users_mistake(cli, place, monkeypatch):
    def fail(*_):
        raise RuntimeError("something of ours")

    monkeypatch.setattr("dps_jax.cli.restore.run", fail)
    with pytest.raises(RuntimeError, match="something of ours"):
        cli("restore", "cell.tif", "-o", "out.tif", *OPTICS)
