"""``dps-jax simulate`` and ``dps-jax demo``."""

import re
import sys

import numpy as np
import pytest

from dps_jax import io
from dps_jax.pipelines.compare import METHODS
from dps_jax.synthetic import structures

NAMES = ["scene_0003_image.tif", "scene_0003_truth.tif", "scene_0004_image.tif", "scene_0004_truth.tif"]


def test_scenes(cli, scratch, opened):
    ran = cli("simulate", "-o", "scenes", "--count", "2", "--seed", "3", "--size-px", "32")
    assert (ran.code, ran.out, ran.errors) == (0, "", [])
    assert sorted(path.name for path in (scratch / "scenes").iterdir()) == NAMES
    image, axes, image_nm, _ = opened("scenes/scene_0003_image.tif")
    truth, _, truth_nm, _ = opened("scenes/scene_0003_truth.tif")
    assert (image.shape, truth.shape, image.dtype, axes) == ((32, 32), (64, 64), np.float32, "YX")
    np.testing.assert_allclose(image_nm, 65.0, rtol=1e-6)
    np.testing.assert_allclose(truth_nm, 32.5, rtol=1e-6)
    about = io.read_description("scenes/scene_0004_truth.tif")
    assert (about["operation"], about["seed"], about["settings"]["na"]) == ("simulate", 4, 1.4)


def test_seeds(cli, scratch):
    for folder, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert cli("simulate", "-o", folder, "--seed", seed, "--size-px", "32").code == 0
    for name in ("image", "truth"):
        first, again, other = (
            next((scratch / folder).glob(f"*{name}.tif")).read_bytes() for folder in ("a", "b", "c")
        )
        assert first == again
        assert first != other


def test_families(cli, scratch):
    ran = cli("simulate", "-o", "s", "--size-px", "32", "--family", "filaments", "gratings")
    assert ran.code == 0
    assert io.read_description("s/scene_0000_image.tif")["settings"]["family"] == ["filaments", "gratings"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "expected an output, got none; give a folder with -o"),
        ("-o s --family actin", f"'{structures.WITHHELD_FAMILIES[0]}'.* got 'actin'"),
        ("-o s --count 0", "--count .* got 0"),
        ("-o s --seed -1", "--seed .* 0 or more, got -1"),
        ("-o s --size-px 15", "--size-px between 16 and 8192, got 15"),
        ("-o s --size-px 1000000", "--size-px between 16 and 8192, got 1000000"),
        ("-o s --photons 0", "--photons .* above 0, got 0"),
        ("-o s --background -1", "--background .* 0 or more, got -1"),
        ("-o s --read-noise-photons -1", "--read-noise-photons .* 0 or more, got -1"),
        ("-o s --na 0", "--na .* above 0, got 0"),
        ("-o s --na 1.6", "refractive index"),
        ("-o s --wavelength-nm -1", "--wavelength-nm .* above 0"),
        ("-o s --pixel-size-nm 0", "--pixel-size-nm .* above 0"),
        ("-o s --modulation 0", "--modulation .* above 0"),
        ("-o s --pixel-size-nm 500", "187.5 nm on pixels of 500 nm; check"),
        ("-o s --pixel-size-nm 0.065", "187.5 nm on pixels of 0.065 nm; check"),
        ("-o file", "expected file to be a folder, but file is a file"),
        ("-o file/s", "expected file/s to be a folder, but file is a file"),
    ],
)
def test_refused_simulations(cli, scratch, listing, words, message):
    (scratch / "file").write_bytes(b"")
    before = listing()
    ran = cli("simulate", *words.split())
    assert (ran.code, ran.out) == (2, "")
    (error,) = ran.errors
    assert re.search(message, error), error
    assert listing() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--size-px 31", "--size-px between 32 and 1024, got 31"),
        ("--photons -1", "--photons .* above 0, got -1"),
        ("--seed -1", "--seed .* 0 or more, got -1"),
        ("--weights absent", "cannot read the weights file absent"),
        ("-o file", "expected file to be a folder"),
    ],
)
def test_refused_demos(cli, scratch, listing, words, message):
    (scratch / "file").write_bytes(b"")
    before = listing()
    ran = cli("demo", *words.split())
    assert ran.code == 2
    assert re.search(message, ran.errors[0]), ran.err
    assert listing() == before


def test_demo(cli, scratch, opened):
    ran = cli("demo", "--size-px", "64", "-o", "show")
    assert (ran.code, ran.errors, ran.notes) == (0, [], [])
    names = ["demo.png", "input.tif", "restored.tif", "table.txt", "truth.tif"]
    assert sorted(path.name for path in (scratch / "show").iterdir()) == names
    assert f"wrote show/: {', '.join(names)}" in ran.err
    table = (scratch / "show" / "table.txt").read_text(encoding="utf-8")
    assert table == ran.out
    assert all(method in table for method in METHODS)
    shapes = {name: opened(f"show/{name}.tif")[0].shape for name in ("input", "restored", "truth")}
    assert shapes == {"input": (64, 64), "restored": (128, 128), "truth": (128, 128)}
    assert (scratch / "show" / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert cli("demo", "--size-px", "64", "-o", "again").code == 0
    for name in names:
        assert (scratch / "again" / name).read_bytes() == (scratch / "show" / name).read_bytes(), name


def test_demo_without_matplotlib(cli, scratch, monkeypatch):
    """The picture is an extra; without it the rest is there, and the user is told."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ran = cli("demo", "--size-px", "64", "-o", "show")
    assert ran.code == 0
    assert any("pip install" in note for note in ran.notes)
    assert not (scratch / "show" / "demo.png").exists()
    assert "demo.png" not in ran.err
    assert (scratch / "show" / "table.txt").exists()
