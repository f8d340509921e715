"""The loop: it learns without truth, and stops, goes on and refuses as it says."""

import json

import jax
import numpy as np
import pytest
from scipy import ndimage

from dps_jax.io import UserError
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines.restore import restore
from dps_jax.pipelines.simulate import acquire
from dps_jax.training import data, loop, run_log, sharding, steps
from dps_jax.training.checkpoint import Checkpoints
from dps_jax.training.loop import train
from dps_jax.weights import Network, save_network


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


EMA = {"ema_decay": 0.9}


def finite(params):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.fixture(scope="module")
def trained(make_config, tmp_path_factory):
    """A real training of 120 steps of a network of 8 and 16 channels, without physics inside it."""
    config = make_config(
        network={"channels": (8, 16), "consistency_steps": 0, "iterates": ()},
        scenes={"photons": (100.0, 300.0), "brightness": (0.8, 1.0), "background": 0.0, "read_noise": 0.0},
        steps=120,
        log_every=20,
        checkpoint_every=60,
    )
    folder = tmp_path_factory.mktemp("run") / "deep" / "er"
    told = []
    return config, folder, train(config, folder, devices=1, report=told.append), told


def test_training_reduces_the_loss_on_scenes_it_never_saw(trained):
    config, _, params, _ = trained
    loss = jax.jit(steps.make_loss(config))
    # Steps after the last: batches that no training step was given.
    held_out = [data.make_batches(config)(config.steps + i) for i in range(3)]
    start = steps.init_state(config)["params"]
    before, after = (np.mean([float(loss(p, b)[0]) for b in held_out]) for p in (start, params))
    # Measured: 3.2 to 0.1. A third leaves room for another seed; a network that learned nothing stays at 1.
    assert after < before / 3


def psnr(image, truth):
    """PSNR after a blur of 0.3 Abbe periods and one least-squares scale, with NumPy and SciPy alone."""
    a, b = (ndimage.gaussian_filter(np.asarray(i, np.float64), 1.5) for i in (image, truth))
    a *= (a * b).sum() / (a * a).sum()
    return 10 * np.log10(b.max() ** 2 / ((a - b) ** 2).mean())


def test_training_brings_images_nearer_to_a_truth_it_never_saw(trained):
    config, _, params, _ = trained
    module = steps.network_of(config)
    system = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=75.0)  # the canonical sampling
    gains = []
    for seed in (1, 2, 3):  # withheld families: not those of the training
        made = acquire(seed, system, shape=(64, 64), photons=200.0)
        start, end = (
            psnr(restore(made.image, system, Network(module, p, 2.5, {}), background=0.0).image, made.truth)
            for p in (steps.init_state(config)["params"], params)
        )
        cubic = ndimage.zoom(made.image, 2, order=3, mode="grid-mirror", grid_mode=True)
        gains.append((end - start, end - psnr(cubic, made.truth)))
    # Measured over two seeds: 10 dB above the untrained network and 2 to 7 dB above cubic interpolation.
    # The bounds leave room for rounding on another machine, which a training amplifies.
    over_start, over_cubic = np.mean(gains, axis=0)
    assert over_start > 5
    assert over_cubic > 1


def test_continuity_in_time_lessens_flicker(make_config, tmp_path):
    """Two trainings on the same movies, without and with the weight of time in the Hessian (Ye et al. 2024)."""
    still = {
        "photons": (50.0, 50.0),
        "brightness": (1.0, 1.0),
        "background": 0.0,
        "read_noise": 0.0,
        "frames": 4,
    }
    flicker = {}
    for sigma in (0.0, 10.0):
        config = make_config(
            batch=4,
            steps=60,
            scenes={**still, "empty": 0.0},
            objective={"hessian": 0.1, "hessian_time": sigma, "split_shares": (0.5,)},
        )
        params = train(config, tmp_path / str(sigma), devices=1)
        network = Network(steps.network_of(config), params, config.scenes.abbe_px, {})
        made = acquire(3, OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=75.0), photons=50.0)
        frames = [restore(i, made.system, network, background=0.0).image for i in (made.image, made.repeat)]
        flicker[sigma] = np.std(frames[0] - frames[1]) / np.mean(frames)
    assert flicker[10.0] < 0.9 * flicker[0.0]


def test_the_run_leaves_config_log_and_checkpoints(trained):
    config, folder, params, told = trained
    log = log_of(folder)
    assert [line["step"] for line in log] == [20, 40, 60, 80, 100, 120]
    assert log == told
    assert all(np.isfinite(list(line.values())).all() and line["images_per_s"] > 0 for line in log)
    assert log[-1]["loss"] < log[0]["loss"]
    assert json.loads((folder / "config.json").read_text())["steps"] == 120
    with Checkpoints(folder / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == 120
        state = checkpoints.load(sharding.put_state(sharding.make_mesh(devices=1), steps.init_state(config)))
    assert all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(state["params"]), jax.tree.leaves(params), strict=True)
    )


def test_a_finished_run_is_finished(trained, monkeypatch):
    config, folder, params, _ = trained
    before = (folder / "log.jsonl").read_bytes()

    def no_batch(_):
        raise AssertionError("a finished run asked for a batch")

    monkeypatch.setattr(data, "make_batches", lambda config, **_: no_batch)
    again = train(config, folder, devices=1)
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(params), strict=True)
    )
    assert (folder / "log.jsonl").read_bytes() == before


def test_a_gradient_that_has_died_is_refused(tmp_path):
    told = []
    log = run_log.RunLog(tmp_path / "log.jsonl", 0, told.append)

    def write(step, norm):
        log.write(
            step, {"loss": np.float32(1.0), "parameter_norm": np.float32(1.0), "gradient_norm": norm}, 1
        )

    for step, norm in enumerate((0.1, 1e-5, 2e-3, 1e-6, 1e-7), start=1):  # it may be small for a moment
        write(step, norm)
    with pytest.raises(FloatingPointError, match=r"got a norm of 1e-08 at step 6, 0.1 at first"):
        write(6, 1e-8)
    assert len(told) == 5
    # A resumed run remembers the lines before it.
    resumed = run_log.RunLog(tmp_path / "log.jsonl", 5, None)
    with pytest.raises(FloatingPointError, match="at step 6"):
        resumed.write(6, {"loss": 1.0, "parameter_norm": 1.0, "gradient_norm": 1e-8}, 1)


def test_the_folder_of_another_config_is_refused(trained, make_config):
    _, folder, _, _ = trained
    files = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="to be empty or a run of this config, found a run of another one"):
        train(make_config(seed=5), folder)
    assert files == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_checkpoint_of_another_network_is_refused(trained):
    config, folder, params, _ = trained
    wider = jax.tree.map(lambda a: np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype), params)
    optimizer = steps.make_optimizer(config.optimizer, config.steps)
    other = {"params": wider, "opt_state": optimizer.init(wider), "step": np.zeros((), np.int32)}
    with (
        Checkpoints(folder / "checkpoints") as checkpoints,
        pytest.raises(ValueError, match="expected a checkpoint of this config's network"),
    ):
        checkpoints.load(sharding.put_state(sharding.make_mesh(devices=1), other))


def test_steps_that_are_not_finite_are_skipped_counted_and_in_a_row_end_the_run(
    monkeypatch, make_config, tmp_path, caplog
):
    # Checkpoints fall between the log lines: broken parameters must not replace good ones unseen.
    config = make_config(
        steps=40, checkpoint_every=5, log_every=6, keep_checkpoints=1, most_skipped=3, optimizer=EMA
    )
    real = data.make_batches(config)

    def broken(step):
        batch = real(step)
        # The third step alone, and all from the twelfth on; counted from 0 here.
        return {**batch, "target": batch["target"] * np.float32(np.nan)} if step == 2 or step >= 11 else batch

    monkeypatch.setattr(loop.data, "make_batches", lambda config, **_: broken)
    folder = tmp_path / "run"
    message = r"got loss nan, gradient nan at step 14, the last of 3 in a row .* the batch of step 12 is saved in (.*)"
    with pytest.raises(FloatingPointError, match=message) as stopped:
        train(config, folder, devices=1)
    said = [record.getMessage().split(" was skipped")[0] for record in caplog.records]
    assert said == ["step 3", "step 12", "step 13", "step 14"]
    assert "skipped so far: 4" in caplog.records[-1].getMessage()
    with Checkpoints(folder / "checkpoints", keep=1) as checkpoints:
        assert checkpoints.latest_step() == 10
        state = checkpoints.load(sharding.put_state(sharding.make_mesh(devices=1), steps.init_state(config)))
    assert all(finite(state[name]) for name in ("params", "opt_state", "ema"))
    assert {name: int(count) for name, count in state["skipped"].items()} == {"in_a_row": 0, "in_all": 1}
    assert (
        int(state["opt_state"][1].inner_states["adam"].inner_state[0].count) == 9
    )  # of ten, one did not happen
    # The line of a step that was skipped is left out.
    assert [(line["step"], line["skipped"]) for line in log_of(folder)] == [(6, 1.0)]
    path = folder / "skipped_step_00000012.npz"
    assert str(stopped.value).endswith(str(path))
    with np.load(path, allow_pickle=False) as saved:
        assert set(saved) == set(real(11))
        assert np.array_equal(saved["input"], real(11)["input"])
        assert np.isnan(saved["target"]).all()


def test_a_skipped_step_changes_nothing_but_its_number(make_config):
    config = make_config(optimizer=EMA)
    step, batch = steps.make_step(config), data.make_batches(config)
    state, _ = step(steps.init_state(config), batch(0))
    before = jax.device_get(state)
    bad = {**batch(1), "photons": np.full(4, np.inf, np.float32)}
    state, said = step(state, bad)
    after = jax.device_get(state)
    assert not np.isfinite(said["loss"])
    assert (int(said["skipped"]), int(said["skipped_in_a_row"])) == (1, 1)
    assert int(after["step"]) == 2
    for name in ("params", "opt_state", "ema"):
        pairs = zip(*map(jax.tree.leaves, (before[name], after[name])), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)
    state, said = step(state, batch(2))
    assert (int(said["skipped"]), int(said["skipped_in_a_row"])) == (1, 0)
    moved = zip(*map(jax.tree.leaves, (after["params"], jax.device_get(state["params"]))), strict=True)
    assert not all(np.array_equal(a, b) for a, b in moved)
    # By hand: the mean of one step's weights and of those before it, at the decay of the third step.
    kept = 3 / 12
    for old, new, mean in zip(
        *map(jax.tree.leaves, (after["ema"], state["params"], state["ema"])), strict=True
    ):
        np.testing.assert_allclose(mean, kept * old + (1 - kept) * new, rtol=1e-5, atol=1e-7)


def test_a_log_line_cut_short_is_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 10, "loss": 1.0}\n{"step": 20, "loss": 0.5}\n{"step": 30, "lo')
    run_log.RunLog(path, 10, None)
    assert path.read_text() == '{"step": 10, "loss": 1.0}\n'


def test_a_run_may_start_from_the_weights_of_another(make_config, tmp_path):
    path = tmp_path / "first.safetensors"
    other = make_config(seed=9)
    weights = jax.device_get(steps.init_state(other)["params"])
    save_network(path, steps.network_of(other), weights, abbe_px=2.5, header={})
    # The learning rate of the first step is 0, so after it the weights are still those of the start.
    after = train(make_config(seed=0, steps=1, initial=path), tmp_path / "run", devices=1)
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(weights), strict=True)
    )
    wider = make_config(initial=path, network={"channels": (6,)})
    with pytest.raises(ValueError, match="expected initial weights of the config's network"):
        train(wider, tmp_path / "wider", devices=1)
    with pytest.raises(UserError, match="cannot read the weights file"):
        train(make_config(initial=tmp_path / "nowhere"), tmp_path / "lost", devices=1)
