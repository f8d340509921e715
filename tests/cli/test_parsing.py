"""Words that tyro refuses become one sentence, and help is help."""

import io
import re
import sys
from pathlib import Path

import pytest

from dps_jax.cli import main, parsing, restore, train
from dps_jax.io import UserError

REFUSED = {
    ("restore", "--na oil"): "--na: expected a number, got 'oil'",
    ("restore", "--na inf"): "--na: expected a number, got 'inf'",
    ("restore", "--tile-px 2.5"): "--tile-px: expected a whole number, got '2.5'",
    ("restore", "a.tif -o"): "expected a value after -o/--output, got fewer",
    ("restore", "--nana 1"): "unknown option --nana; did you mean --na?",
    ("restore", "--zzzzzz 1"): "unknown option --zzzzzz",
    ("simulate", "a.tif"): "unknown word a.tif",
    ("simulate", "--count many"): "--count: expected a whole number, got 'many'",
    ("demo", "--photons bright"): "--photons: expected a number, got 'bright'",
    ("train", "--steps 1e3"): "--steps: expected a whole number, got '1e3'",
    ("train", "--scenes.photons 4"): "expected 2 values after --scenes.photons, got fewer",
    (
        "train",
        "--network.channels 4 wide",
    ): "--network.channels: expected values of another kind, got '4', 'wide'",
    ("train", "--images.gain high"): "--images.gain: expected a number, got 'high'",
}


@pytest.fixture(params=["utf-8", "ascii"])
def encoding(request, monkeypatch):
    """Tyro frames its reports where the terminal can show a frame; the sentence must not depend on it."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=request.param)
    monkeypatch.setattr(sys, "stdout", out)
    return request.param


@pytest.mark.parametrize("case", REFUSED, ids=" ".join)
def test_refused_words(encoding, capsys, case):
    command, words = case
    assert main([command, *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {REFUSED[case]}")
    assert re.search(rf"[Ss]ee `dps-jax {command} --help`\.$", line)


@pytest.mark.parametrize("command", ["restore", "train", "simulate", "demo"])
def test_help(capsys, command):
    assert main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: dps-jax {command}")
    assert err == ""
    assert "None" not in out


def test_version_and_commands(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(
        re.search(rf"^  {name} ", out, re.MULTILINE) for name in ("restore", "train", "simulate", "demo")
    )
    assert main(["--version"]) == 0
    assert re.fullmatch(r"dps-jax \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_good_words():
    words = "a.tif b.tif -o out --na 1.4 --wavelength-nm 525 --wavelength-nm 600 --background -3 --tile-px 64"
    found = restore.parse(words.split())
    assert found.inputs == (Path("a.tif"), Path("b.tif"))
    assert found.output == Path("out")
    assert found.wavelength_nm == (525.0, 600.0)
    assert (found.na, found.background, found.tile_px, found.pixel_size_nm) == (1.4, -3.0, 64, None)


def test_flag_spelling():
    assert parsing.flag("output_pixel_size_nm") == "--output-pixel-size-nm"


@pytest.mark.parametrize("form", [["--config", "c.toml"], ["--config=c.toml"]])
def test_flags_override_the_file(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text("steps = 7\nbatch = 3\n[scenes]\npatch_px = 32\nabbe_px = 2.0\n")
    found = train.parse(["-o", "w.safetensors", *form, "--batch", "5", "--scenes.abbe-px", "3"]).settings
    assert (found.steps, found.batch, found.scenes.patch_px, found.scenes.abbe_px) == (7, 5, 32, 3.0)


def test_unknown_setting_in_the_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[optimizer]\nlearning_rat = 1e-3\n")
    with pytest.raises(UserError, match=r"c\.toml: .*among name, learning_rate, .* got learning_rat$"):
        train.parse(["-o", "w.safetensors", "--config", str(path)])
