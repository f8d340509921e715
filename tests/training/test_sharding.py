"""One loss curve for any layout: 1, 2, 4 and 8 devices, divided parameters, a batch in parts; and onto other meshes."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from dps_jax.training import sharding, steps
from dps_jax.training.checkpoint import Checkpoints

# On eight devices, more than the suite has: the losses of four steps, and the state that each layout leaves.
PROGRAM = """
import dataclasses, json, jax, numpy as np
from dps_jax.training import data, sharding, steps
from dps_jax.training.config import NetworkConfig, ObjectiveConfig, OptimizerConfig, ParallelConfig, SceneConfig
from dps_jax.training.config import TrainConfig

config = TrainConfig(
    network=NetworkConfig(channels=(4,), consistency_steps=0, iterates=()),
    scenes=SceneConfig(patch_px=20),
    objective=ObjectiveConfig(margin_px=4, shrunk_share=0.5, ssim=0.0, hessian=0.0, sparsity=0.0),
    optimizer=OptimizerConfig(learning_rate=5e-3, warmup_steps=2, ema_decay=0.9),
    steps=20,
    batch=16,
)
make_batch = data.make_batches(config)
batches = [make_batch(i) for i in range(4)]
found = {}
for name, devices, shards, parts in LAYOUTS:
    parallel = ParallelConfig(model_shards=shards, shard_above=16, accumulate=parts)
    layout = dataclasses.replace(config, parallel=parallel)
    mesh = sharding.make_mesh(devices=devices, model_shards=shards)
    step = steps.make_step(layout, mesh=mesh)
    state = sharding.put_state(mesh, steps.init_state(layout), above=parallel.shard_above)
    before = jax.tree.map(lambda a: a.sharding, state)
    losses = []
    for batch in batches:
        state, said = step(state, sharding.put_batch(mesh, batch, accumulate=parts))
        losses.append(float(said["loss"]))
    kept = jax.tree.all(jax.tree.map(lambda a, s: a.sharding.is_equivalent_to(s, a.ndim), state, before))
    held = sum(a.addressable_shards[0].data.nbytes for a in jax.tree.leaves(state))
    flat = np.concatenate([np.ravel(a) for a in jax.tree.leaves(sharding.whole(state["ema"]))])
    found[name] = {"losses": losses, "kept": kept, "bytes": held, "ema": flat.astype(float).tolist()}
print("FOUND", json.dumps(found))
"""
LAYOUTS = {
    "1": (1, 1, 1),
    "2": (2, 1, 1),
    "4": (4, 1, 1),
    "8": (8, 1, 1),
    "4 x 2 divided": (8, 2, 1),
    "2, in 4 parts": (2, 1, 4),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    layouts = [(name, *numbers) for name, numbers in LAYOUTS.items()]
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"  # the last one counts
    # Every layout begins with one state, made by one program.
    cache = tmp_path_factory.mktemp("compiled")
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("LAYOUTS", repr(layouts))],
        env={**os.environ, "XLA_FLAGS": flags, "NPROC": "64", "JAX_COMPILATION_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.split("FOUND ")[1])


@pytest.mark.slow
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "1"])
def test_every_layout_has_the_loss_curve_of_one_device(found, layout):
    one, other = found["1"], found[layout]
    assert one["losses"][-1] != one["losses"][0]
    np.testing.assert_allclose(other["losses"], one["losses"], rtol=1e-5)
    # Four updates of at most 5e-3 each; what they add up to may differ by a hundredth of one.
    np.testing.assert_allclose(other["ema"], one["ema"], atol=5e-5)
    assert other["kept"]  # or every step would be compiled anew for what the one before left


@pytest.mark.slow
def test_a_device_holds_its_part_only(found):
    whole, half = (found[name]["bytes"] for name in ("1", "4 x 2 divided"))
    assert half < 0.6 * whole


@pytest.mark.parametrize(
    ("shape", "shards", "above", "spec"),
    [
        ((3, 3, 8, 16), 2, 0, PartitionSpec(None, None, None, "model")),
        ((3, 3, 16, 8), 4, 0, PartitionSpec(None, None, "model")),
        ((6, 9), 2, 0, PartitionSpec("model")),  # the longest that can be divided
        ((3, 5), 2, 0, PartitionSpec()),
        ((64, 64), 2, 4097, PartitionSpec()),
        ((64, 64), 1, 0, PartitionSpec()),
        ((), 2, 0, PartitionSpec()),
    ],
)
def test_how_an_array_is_divided(shape, shards, above, spec):
    assert sharding.spec_of(shape, shards=shards, above=above) == spec


def test_a_checkpoint_is_read_onto_another_mesh(rng, tmp_path):
    def placed(devices, shards, state):
        return sharding.put_state(sharding.make_mesh(devices=devices, model_shards=shards), state, above=64)

    shapes = {"kernel": (3, 3, 8, 16), "bias": (16,), "slope": ()}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    start = {"params": params, "opt_state": ({"mu": params},), "step": np.array(7, np.int32)}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(placed(4, 4, start))
    zeros = jax.tree.map(np.zeros_like, start)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for devices, shards in ((2, 1), (4, 2), (1, 1)):
            like = placed(devices, shards, zeros)
            got = checkpoints.load(like)
            for a, b, where in zip(*map(jax.tree.leaves, (got, start, like)), strict=True):
                assert np.array_equal(a, b)
                assert a.sharding.is_equivalent_to(where.sharding, a.ndim)


def test_the_latest_and_the_best_checkpoint_stay(tmp_path):
    # Donated and overwritten while a checkpoint of it is under way, a state is still saved as it was.
    add = jax.jit(lambda s: {"w": s["w"] + 1, "step": s["step"] + 1}, donate_argnums=0)
    mesh = sharding.make_mesh(devices=2)
    state = sharding.put_state(mesh, {"w": jnp.zeros((300, 300)), "step": jnp.zeros((), jnp.int32)})
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for loss in (5.0, 1.0, 3.0, 2.0, 4.0):
            state = add(state)
            checkpoints.save(state, loss=loss)
        for _ in range(20):
            state = add(state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4", "5"]
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert (checkpoints.best_step(), checkpoints.latest_step()) == (2, 5)
        for step in (2, 4, 5):
            assert np.all(np.asarray(checkpoints.load(state, step=step)["w"]) == step)


def test_devices_that_cannot_share_a_copy_are_refused():
    with pytest.raises(ValueError, match=r"multiple of parallel.model_shards \(3\), got 4"):
        sharding.make_mesh(devices=4, model_shards=3)


def test_a_batch_that_does_not_divide_into_parts_is_refused():
    with pytest.raises(ValueError, match="a multiple of the 2 devices and 3 parts, got 8 in 'input'"):
        sharding.put_batch(sharding.make_mesh(devices=2), {"input": np.zeros((8, 2))}, accumulate=3)


def test_in_bfloat16_parameters_and_statistics_stay_float32(make_config):
    config = make_config(
        network={"dtype": "bfloat16", "consistency_steps": 1, "iterates": (2,)},
        optimizer={"ema_decay": 0.9},
    )
    batch = {k: jnp.zeros((4, 32, 32)) for k in ("input", "target")} | {"photons": jnp.ones(4)}
    state = jax.eval_shape(lambda: steps.init_state(config))
    after, said = jax.eval_shape(steps.make_step(config), state, batch)
    numbers = [leaf.dtype for leaf in jax.tree.leaves((after, said)) if leaf.dtype != np.int32]
    assert set(numbers) == {np.dtype(np.float32)}
    assert "bf16" in str(jax.make_jaxpr(steps.make_loss(config))(state["params"], batch))
