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
from dps_jax.training import data, loop, sharding, steps
from dps_jax.training.checkpoint import Checkpoints
from dps_jax.training.loop import train
from dps_jax.weights import Network, save_network


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


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

    monkeypatch.setattr(data, "make_batches", lambda config, images=None: no_batch)
    again = train(config, folder, devices=1)
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(params), strict=True)
    )
    assert (folder / "log.jsonl").read_bytes() == before


def test_a_gradient_that_has_died_is_refused(tmp_path):
    told = []
    log = loop._Log(tmp_path / "log.jsonl", 0, told.append)

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
    resumed = loop._Log(tmp_path / "log.jsonl", 5, None)
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


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    monkeypatch, make_config, tmp_path
):
    # Checkpoints fall between the log lines: broken parameters must not replace good ones unseen.
    config = make_config(steps=40, checkpoint_every=5, log_every=9, keep_checkpoints=1)
    real = data.make_batches(config)

    def broken(step):
        batch = real(step)
        return {**batch, "target": batch["target"] * np.float32(np.nan)} if step >= 11 else batch

    monkeypatch.setattr(loop.data, "make_batches", lambda config, images=None: broken)
    with pytest.raises(FloatingPointError, match=r"expected a finite loss, got nan at step 15"):
        train(config, tmp_path / "run", devices=1)
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == 10
        state = checkpoints.load(sharding.put_state(sharding.make_mesh(devices=1), steps.init_state(config)))
    assert finite(state["params"])
    assert all(np.isfinite(line["loss"]) for line in log_of(tmp_path / "run"))


def test_a_log_line_cut_short_is_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 10, "loss": 1.0}\n{"step": 20, "loss": 0.5}\n{"step": 30, "lo')
    loop._Log(path, 10, None)
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
