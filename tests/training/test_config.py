"""Configs: what is written is what is read, and every unusable setting is refused by its name."""

import dataclasses
import json
from pathlib import Path

import pytest

from dps_jax.training.config import FolderConfig, TrainConfig
from dps_jax.training.config_files import from_dict, read_config, to_dict


def test_round_trip_through_json(make_config):
    config = make_config(
        images=FolderConfig(folder=Path("somewhere"), na=1.4, wavelength_nm=525.0, gain=2.0), seed=7
    )
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_defaults_round_trip():
    assert from_dict(TrainConfig, {}) == TrainConfig() == from_dict(TrainConfig, to_dict(TrainConfig()))


def test_whole_numbers_become_the_declared_type():
    # 20 and 20.0 must be one config: the run folder compares texts.
    config = from_dict(TrainConfig, {"scenes": {"photons": [20, 3000]}, "optimizer": {"clip_norm": 1}})
    assert json.dumps(to_dict(config)["scenes"]["photons"]) == "[20.0, 3000.0]"
    assert isinstance(config.optimizer.clip_norm, float)


def test_reads_toml(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(
        "steps = 12\nseed = 3\n[network]\nchannels = [4, 8]\n[scenes]\nphotons = [10, 100.0]\n"
        '[images]\nfolder = "cells"\nna = 1\n[objective]\nsplit_shares = []\n'
    )
    config = read_config(path)
    assert (config.steps, config.seed, config.network.channels) == (12, 3, (4, 8))
    assert (config.scenes.photons, config.images.folder, config.images.na) == (
        (10.0, 100.0),
        Path("cells"),
        1.0,
    )
    assert config.objective.split_shares == ()
    assert config.optimizer == TrainConfig().optimizer


@pytest.mark.parametrize("content", [None, "steps = = 3", "steps = 3\nsteps = 4", b"\xff\xfe\x00"])
def test_refuses_a_file_that_is_no_toml(tmp_path, content):
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"expected a TOML config file at .*run\.toml"):
        read_config(path)


REFUSED = [
    ({"nope": 1}, "settings of config among .*network.*got nope"),
    ({"scenes": {"pathc_px": 48}}, "settings of config.scenes among .*got pathc_px"),
    ({"network": 7}, "config.network to be a table"),
    ({"steps": 0}, "steps to be a whole number of 1 or more, got 0"),
    ({"steps": 1.5}, "config.steps to be a whole number, got 1.5"),
    ({"steps": None}, "config.steps to be a whole number, got None"),
    ({"batch": True}, "config.batch to be a whole number, got True"),
    ({"batch": -4}, "batch to be a whole number of 1 or more"),
    ({"log_every": 0}, "log_every to be a whole number of 1 or more"),
    ({"checkpoint_every": 0}, "checkpoint_every to be a whole number of 1 or more"),
    ({"keep_checkpoints": 0}, "keep_checkpoints to be a whole number of 1 or more"),
    ({"seed": -1}, "seed to be a whole number of 0 or more, got -1"),
    ({"seed": "one"}, "config.seed to be a whole number, got 'one'"),
    ({"network": {"name": 5}}, "config.network.name to be str, got 5"),
    ({"network": {"channels": []}}, "network.channels with at least one level"),
    ({"network": {"channels": 16}}, "config.network.channels to be a list, got 16"),
    ({"network": {"channels": [4.5, 8]}}, r"config.network.channels\[0\] to be a whole number, got 4.5"),
    ({"network": {"channels": [4, 0]}}, r"network.channels\[1\] to be a whole number of 1 or more, got 0"),
    ({"network": {"blocks": 0}}, "network.blocks to be a whole number of 1 or more"),
    ({"network": {"projections": 0}}, "network.projections to be a whole number of 1 or more"),
    ({"network": {"consistency_steps": -1}}, "network.consistency_steps to be a whole number of 0 or more"),
    ({"network": {"iterates": [3, 0]}}, r"network.iterates\[1\] to be a whole number of 1 or more, got 0"),
    ({"network": {"iterates": [6, 3]}}, r"network.iterates in ascending order, got \(6, 3\)"),
    ({"network": {"iterates": [3, 3]}}, r"network.iterates in ascending order, got \(3, 3\)"),
    (
        {"network": {"projection_features": 0}},
        "network.projection_features to be a whole number of 1 or more",
    ),
    ({"scenes": {"pedestal": -1}}, "scenes.pedestal to be a finite number of 0 or more"),
    ({"objective": {"shrinkage": [1.5, 4]}}, r"objective.shrinkage as 2 <= low <= high, got \(1.5, 4.0\)"),
    ({"objective": {"shrinkage": [5, 4]}}, "objective.shrinkage as 2 <= low <= high"),
    ({"objective": {"shrunk_fine": -1}}, "objective.shrunk_fine to be a finite number of 0 or more"),
    (
        {"network": {"channels": [4, 8, 16]}, "scenes": {"patch_px": 50}},
        "scenes.patch_px to be a multiple of 4, got 50",
    ),
    (
        {"scenes": {"patch_px": 24}, "objective": {"margin_px": 8}},
        "scenes.patch_px to leave at least 11 px inside .* got 24",
    ),
    ({"scenes": {"patch_px": "48"}}, "config.scenes.patch_px to be a whole number, got '48'"),
    ({"scenes": {"photons": 100}}, "config.scenes.photons to be a list of 2, got 100"),
    ({"scenes": {"photons": [100]}}, "config.scenes.photons to be a list of 2"),
    ({"scenes": {"photons": ["a", "b"]}}, r"config.scenes.photons\[0\] to be a number, got 'a'"),
    ({"scenes": {"photons": [0, 100]}}, "scenes.photons as 0 < low <= high"),
    ({"scenes": {"photons": [100, 10]}}, "scenes.photons as 0 < low <= high"),
    ({"scenes": {"brightness": [float("nan"), 1]}}, "scenes.brightness as 0 < low <= high"),
    ({"scenes": {"abbe_px": 0}}, "scenes.abbe_px to be a finite number above 0"),
    ({"scenes": {"background": -0.1}}, "scenes.background to be a finite number of 0 or more"),
    ({"scenes": {"read_noise": float("inf")}}, "scenes.read_noise to be a finite number of 0 or more"),
    ({"scenes": {"psf_error": -1}}, "scenes.psf_error to be a finite number of 0 or more"),
    ({"scenes": {"empty": 1.5}}, "scenes.empty between 0 and 1, got 1.5"),
    ({"scenes": {"frames": 0}}, "scenes.frames"),
    ({"scenes": {"frames": 3}}, r"the 2 images of a batch .* movies of scenes.frames \(3\) images"),
    (
        {"scenes": {"frames": 2}, "images": {"folder": "x"}},
        "scenes.frames to be 1 where images.folder is given",
    ),
    ({"objective": {"hessian_time": -1}}, "objective.hessian_time to be a finite number of 0 or more"),
    ({"network": {"dtype": "float16"}}, "network.dtype to be one of 'float32', 'bfloat16', got 'float16'"),
    ({"optimizer": {"name": "sgd"}}, "optimizer.name to be one of 'adam', 'muon', got 'sgd'"),
    ({"images": {"folder": 3}}, "config.images.folder to be a path, got 3"),
    ({"images": {"share": -0.5}}, "images.share between 0 and 1, got -0.5"),
    ({"images": {"gain": 0}}, "images.gain to be a finite number above 0"),
    ({"objective": {"split_shares": 0.5}}, "config.objective.split_shares to be a list, got 0.5"),
    ({"objective": {"split_shares": [0.5, 1.0]}}, "objective.split_shares between 0 and 1"),
    ({"objective": {"hessian": -1}}, "objective.hessian to be a finite number of 0 or more"),
    ({"objective": {"shrunk": -1}}, "objective.shrunk to be a finite number of 0 or more"),
    ({"objective": {"shrunk_share": 1.1}}, "objective.shrunk_share between 0 and 1, got 1.1"),
    ({"objective": {"ssim": [1.0]}}, r"config.objective.ssim to be one value, got \[1.0\]"),
    ({"objective": {"margin_px": -1}}, "objective.margin_px to be a whole number of 0 or more"),
    (
        {"objective": dict.fromkeys(("weighted_l2", "ssim", "hessian", "sparsity"), 0)},
        "at least one loss weight that is not 0",
    ),
    ({"optimizer": {"learning_rate": -1e-3}}, "optimizer.learning_rate to be a finite number above 0"),
    ({"optimizer": {"learning_rate": None}}, "config.optimizer.learning_rate to be a number, got None"),
    ({"optimizer": {"ema_decay": 1}}, "optimizer.ema_decay from 0 to below 1, got 1.0"),
    ({"most_skipped": 0}, "most_skipped to be a whole number of 1 or more, got 0"),
    ({"parallel": {"model_shards": 0}}, "parallel.model_shards to be a whole number of 1 or more, got 0"),
    (
        {"parallel": {"accumulate": 3}},
        "parallel.accumulate to divide both the 2 exposures and the 6 .* got 3",
    ),
    ({"optimizer": {"clip_norm": 0}}, "optimizer.clip_norm to be a finite number above 0"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=lambda v: str(v)[:50])
def test_refuses(values, message):
    with pytest.raises(ValueError, match=f"expected {message}"):
        from_dict(TrainConfig, values)


@pytest.mark.parametrize(("share", "shrunk", "parts"), [(0.0, 0, 8), (0.5, 4, 4), (0.25, 2, 2), (1.0, 8, 8)])
def test_a_batch_is_shared_between_the_two_tasks(make_config, share, shrunk, parts):
    config = make_config(batch=8, objective={"shrunk_share": share})
    assert (config.shrunk_count, config.common_parts) == (shrunk, parts)


def test_weights_leave_out_terms_of_zero(make_config):
    objective = dataclasses.replace(make_config().objective, ssim=0.0, tv=0.5)
    assert objective.weights == {"weighted_l2": 10.0, "hessian": 0.01, "sparsity": 0.01, "tv": 0.5}
