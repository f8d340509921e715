"""``dps-jax train`` end to end, with a network of a few thousand parameters and six steps."""

import json
import re

import numpy as np
import pytest

from dps_jax.cli import progress
from dps_jax.io.parameters import read_parameters

# The patch is the smallest that leaves the 11 px of SSIM's window. One device: two take longer to compile for.
CONFIG = """
steps = 6
batch = 4
log_every = 1
checkpoint_every = 2
[network]
channels = [4, 8]
consistency_steps = 0
iterates = []
[scenes]
patch_px = 20
[objective]
margin_px = 4
shrunk_share = 0.0
"""
WORDS = ["train", "--config", "c.toml", "--devices", "1"]
OPTICS = ["--na", "1.4", "--wavelength-nm", "525"]


@pytest.fixture
def config(scratch):
    (scratch / "c.toml").write_text(CONFIG)
    return scratch


def _log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_train_and_restore(cli, config, save, cell, opened):
    ran = cli(*WORDS, "-o", "w.safetensors", "--seed", "3")
    assert (ran.code, ran.out, ran.errors) == (0, "", [])
    lines = _log(config / "w.run")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(line["loss"]) and line["images_per_s"] > 0 for line in lines)
    assert sum(line.startswith("step ") for line in ran.err.splitlines()) == 6
    params, header, _ = read_parameters("w.safetensors")
    assert params
    assert (header["seed"], header["config"]["seed"], header["config"]["batch"]) == (3, 3, 4)
    assert header["final"]["loss"] == lines[-1]["loss"]
    stored = json.loads((config / "w.run" / "config.json").read_text())
    assert (stored["steps"], stored["scenes"]["patch_px"], stored["seed"]) == (6, 20, 3)
    save("cell.tif", cell)
    assert cli("restore", "cell.tif", "-o", "own.tif", *OPTICS, "--weights", "w.safetensors").code == 0
    assert cli("restore", "cell.tif", "-o", "released.tif", *OPTICS).code == 0
    own, released = (opened(name)[0] for name in ("own.tif", "released.tif"))
    assert own.shape == (128, 128)
    assert not np.array_equal(own, released)


def test_interrupted_and_resumed(cli, config, monkeypatch):
    """Stopped at step 5, after the checkpoint of step 4, it ends with the bytes of a run that was not."""
    assert cli(*WORDS, "-o", "whole.safetensors").code == 0
    usual = progress.LateProgress.__call__

    def stop(self, done, total, note=""):
        if done == 5:
            raise KeyboardInterrupt
        usual(self, done, total, note)

    with monkeypatch.context() as patch:
        patch.setattr(progress.LateProgress, "__call__", stop)
        ran = cli(*WORDS, "-o", "w.safetensors")
    assert ran.code == 130
    assert "the same command goes on from the last checkpoint" in ran.err
    assert not (config / "w.safetensors").exists()
    ran = cli(*WORDS, "-o", "w.safetensors")
    assert ran.code == 0
    assert "going on with the run in w.run" in ran.err
    assert "step       5" in ran.err
    assert "step       4" not in ran.err
    assert [line["step"] for line in _log(config / "w.run")] == [1, 2, 3, 4, 5, 6]
    whole = (config / "whole.safetensors").read_bytes()
    assert (config / "w.safetensors").read_bytes() == whole
    # A third time there is nothing to do but to write the same file.
    (config / "w.safetensors").unlink()
    assert cli(*WORDS, "-o", "w.safetensors").code == 0
    assert (config / "w.safetensors").read_bytes() == whole


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected an output, got none; give a .safetensors file"),
        (["-o", "w.tif"], "expected the output to be a .safetensors file, got w.tif"),
        (["-o", "absent/w.safetensors"], "absent/w.safetensors does not exist"),
        (["-o", "w.safetensors", "--run", "c.toml"], "c.toml to be a folder, but c.toml is a file"),
        (["-o", "w.safetensors", "--run", "c.toml/run"], "c.toml/run to be a folder, but c.toml is a file"),
        (["-o", "w.safetensors", "--steps", "0"], "steps to be a whole number of 1 or more, got 0"),
        (["-o", "w.safetensors", "--config", "absent.toml"], "the config file absent.toml was not found"),
        (["-o", "w.safetensors", "--config", "text.toml"], "text.toml: expected a TOML config file"),
        (["-o", "w.safetensors", "--config", "wrong.toml"], "wrong.toml: .*among patch_px.* got epochs"),
        (["-o", "w.safetensors", "--config", "type.toml"], "batch to be a whole number, got 'many'"),
    ],
)
def test_refused_at_once(cli, config, listing, words, message):
    files = {"text.toml": "steps: 3", "type.toml": "batch = 'many'"}
    for name, text in files.items():
        (config / name).write_text(text)
    (config / "wrong.toml").write_text("[network]\nname = 'res_u_dbpn'\n[scenes]\nepochs = 3\n")
    _refused(cli, config, listing, words, message)


def _refused(cli, config, listing, words, message):
    before = listing()
    ran = cli(*WORDS, *words)
    assert (ran.code, ran.out) == (2, "")
    (error,) = ran.errors
    assert re.search(message, error), error
    assert listing() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--devices", "99"], "devices, got 99"),
        (["--batch", "3", "--devices", "2"], "multiple of the 2 devices, got 3"),
        (["--images.folder", "absent"], "TIFF files in the folder absent, found none"),
    ],
)
def test_a_refused_training_leaves_the_folder_free(cli, config, words, message):
    ran = cli(*WORDS, "-o", "w.safetensors", *words)
    assert ran.code == 2
    assert re.search(message, ran.errors[0])
    assert not (config / "w.safetensors").exists()
    assert not [path for path in config.rglob("*") if path.is_file() and path.name != "c.toml"]


def test_the_corrected_command_runs_in_the_same_folder(cli, config):
    assert cli(*WORDS, "-o", "w.safetensors", "--steps", "1", "--images.folder", "absent").code == 2
    assert cli(*WORDS, "-o", "w.safetensors", "--steps", "1").code == 0


def test_other_settings_in_a_used_folder(cli, config, listing):
    assert cli(*WORDS, "-o", "w.safetensors", "--steps", "1").code == 0
    before = listing()
    ran = cli(*WORDS, "-o", "w.safetensors", "--steps", "2", "--scenes.abbe-px", "3")
    assert ran.code == 2
    assert "w.run holds a run of other settings" in ran.errors[0]
    assert "scenes.abbe_px 2.5 there and 3.0 here, steps 1 there and 2 here" in ran.errors[0]
    assert listing() == before
    (config / "w.run" / "config.json").write_text("{")
    assert "config.json is damaged" in cli(*WORDS, "-o", "w.safetensors").errors[0]


def test_a_loss_that_is_not_finite(cli, config, monkeypatch):
    def fail(*_, **__):
        raise FloatingPointError("expected a finite loss, got nan at step 1")

    monkeypatch.setattr("dps_jax.training.loop.train", fail)
    ran = cli(*WORDS, "-o", "w.safetensors")
    assert ran.code == 2
    assert (
        "got nan at step 1; the last checkpoint is in w.run, try a smaller --optimizer.learning-rate"
        in ran.err
    )
