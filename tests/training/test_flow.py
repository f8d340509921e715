"""Training of the flow network: pairs that hold what they say, losses with and without truth, and learning."""

import dataclasses

import numpy as np
import pytest

from dps_jax.operators import warp
from dps_jax.training.config import OptimizerConfig
from dps_jax.training.flow import _likeness_term, train_flow
from dps_jax.training.flow_config import FlowConfig, FlowLossConfig, MotionConfig
from dps_jax.training.flow_data import draw_flow, make_batches

SMALL = FlowConfig(
    channels=(4, 6),
    flow_features=6,
    windows=(4.0,),
    repeats=1,
    loss=FlowLossConfig(levels=(0.3, 1.0)),
    side_px=48,
    scenes=2,
    batch=2,
    frames=2,
    # Muon takes most of a minute to compile for as many kernels as these.
    optimizer=OptimizerConfig(name="adam", learning_rate=1e-2, warmup_steps=1),
    steps=16,
    log_every=8,
    checkpoint_every=16,
)
# Much light, nothing hidden and nothing that fades: what differs between a frame and its template is motion.
BRIGHT = dataclasses.replace(SMALL, photons=(1e4, 1e4), template_blur_px=0, gain=1, shading=0, read_noise=0)


@pytest.fixture(scope="module")
def bright():
    return make_batches(BRIGHT)(0)


def test_a_batch_is_a_function_of_its_step():
    batches = make_batches(SMALL)
    first, again, other = batches(1), make_batches(SMALL)(1), batches(2)
    assert {k: v.shape for k, v in first.items()} == {
        "template": (2, 48, 48),
        "frame": (2, 2, 48, 48),
        "template_known": (2, 48, 48),
        "known": (2, 2, 48, 48),
        "flow": (2, 2, 2, 48, 48),
    }
    for name, value in first.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, again[name])
    assert np.abs(first["frame"] - other["frame"]).max() > 0


def test_the_flow_brings_the_frame_onto_its_template(bright):
    inner = (slice(8, -8), slice(8, -8))
    apart = []
    for template, frames, flows in zip(bright["template"], bright["frame"], bright["flow"], strict=True):
        corrected = np.asarray(warp(frames, flows, order=3))
        for frame, moved, flow in zip(frames, corrected, flows, strict=True):
            raw, mended = (
                np.corrcoef(template[inner].ravel(), i[inner].ravel())[0, 1] for i in (frame, moved)
            )
            assert mended >= raw - 1e-3
            apart.append((np.hypot(*flow).mean(), mended - raw))
    # Where there is motion it is undone.
    assert max(gain for length, gain in apart if length > 0.5) > 0.02


def test_kinds_of_motion(rng):
    still = draw_flow(rng, 40, MotionConfig(still=1.0))
    assert not still.any()
    rigid = draw_flow(rng, 40, MotionConfig(still=0.0, rigid=1.0))
    np.testing.assert_array_equal(rigid, np.broadcast_to(rigid[:, :1, :1], rigid.shape))
    narrow = MotionConfig(still=0, rigid=0, shift_px=0, vector_px=(3, 3), sigma_px=(7.2, 7.2), scan_lines=0)
    drawn = np.stack([draw_flow(rng, 40, narrow) for _ in range(100)])
    # Ten vectors of 3 px over 2 pi on a field of which sigma is 0.18: variance 10 (3 / 2 pi)^2 pi 0.18^2.
    wanted = np.sqrt(10 * (3 / (2 * np.pi)) ** 2 * np.pi * 0.18**2)
    np.testing.assert_allclose(drawn.std(), wanted, rtol=0.1)


def test_training_brings_the_flow_nearer_to_the_truth(tmp_path, bright, monkeypatch):
    # One batch, over and over, from least squares on random features to something nearer.
    monkeypatch.setattr("dps_jax.training.flow.make_batches", lambda config: lambda step: bright)
    lines = []
    train_flow(BRIGHT, tmp_path / "run", report=lines.append)
    assert lines[-1]["endpoint"] < 0.8 * lines[0]["endpoint"]
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]


@pytest.mark.parametrize("objective", ["l2", "ncc", "local_ncc"])
def test_likeness_alone_knows_the_true_flow_from_none(bright, objective):
    term = _likeness_term(objective, bright)
    truth = bright["flow"].reshape(-1, 2, 48, 48)
    moving = np.hypot(*truth.transpose(1, 0, 2, 3)).mean((1, 2)) > 0.5
    assert moving.any()
    for cell in (1, 4):
        flow = truth.reshape(-1, 2, 48 // cell, cell, 48 // cell, cell).mean((3, 5))
        assert (term(flow, cell) < term(0 * flow, cell))[moving].all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": (4,)}, "two levels or more"),
        ({"side_px": 50}, "side_px to be a multiple of 4"),
        ({"loss": FlowLossConfig(levels=(1.0,))}, "loss.levels as many as flows, which are 2, got 1"),
        ({"photons": (0, 3)}, "expected photons as 0 < low <= high"),
        ({"gain": 0.5}, "expected gain"),
        ({"steps": 0}, "expected steps"),
    ],
)
def test_configs_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)
    with pytest.raises(ValueError, match=r"loss\.objective|motion"):
        FlowLossConfig(objective="likeness")
    with pytest.raises(ValueError, match=r"motion\.still"):
        MotionConfig(still=1.5)
