"""The training step beside the same network in PyTorch: forward, backward and update, one run, interleaved.

Off in the suite; needs ``pip install '.[torch-oracle]'``, else it is skipped. The network is the released one without
the physics inside it (U-Net of 24, 48 and 96 channels, one up-projection), 8 patches of 48 px, squared error, Adam,
float32. Ours is shared by as many devices as the command line makes of the cores, PyTorch has as many threads, and is
timed in both memory formats; its better one counts. Both start from the same weights and must answer alike, or the
comparison is void. Wanted: 1 or less. Measured on two idle cores: 1.26 by the clock, 1.21 by processor time.
"""

import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dps_jax.models import build
from dps_jax.training import sharding, steps

torch = pytest.importorskip(
    "torch", reason="torch is not installed; .venv/bin/pip install -e '.[torch-oracle]'"
)
F = torch.nn.functional

CHANNELS, BATCH, SIDE, RATE, ROUNDS = (24, 48, 96), 8, 48, 1e-3, 15
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class TorchNetwork(torch.nn.Module):
    """The same layers with the same weights, channels first; flax's names are kept."""

    def __init__(self, params):
        super().__init__()
        self.kept = torch.nn.ParameterDict()
        for path, value in jax.tree_util.tree_flatten_with_path(params)[0]:
            name = "/".join(key.key for key in path)
            self.kept[name.replace(".", "_")] = torch.nn.Parameter(torch.tensor(_carried(name, value)))

    def conv(self, x, name):
        weight = self.kept[f"{name}/kernel"]
        return F.conv2d(x, weight, self.kept[f"{name}/bias"], padding=weight.shape[-1] // 2)

    def prelu(self, x, name):
        return F.prelu(x, self.kept[f"{name}/slope"])

    def act(self, x, name):
        return self.prelu(self.conv(x, f"{name}/Conv_0"), f"{name}/PReLU_0")

    def block(self, x, name):
        inner = self.conv(self.act(x, f"{name}/ConvAct_0"), f"{name}/Conv_0")
        return self.prelu(x + inner, f"{name}/PReLU_0")

    def up(self, x, name):
        return F.pixel_shuffle(self.conv(x, f"{name}/Conv_0"), 2)

    def down(self, x, name):
        return self.conv(F.pixel_unshuffle(x, 2), f"{name}/Conv_0")

    def project(self, low):
        name = "UpProjection_0"
        high = self.prelu(self.up(low, f"{name}/Upscale_0"), f"{name}/PReLU_0")
        error = self.prelu(self.down(high, f"{name}/Downscale_0"), f"{name}/PReLU_1") - low
        return high + self.prelu(self.up(error, f"{name}/Upscale_1"), f"{name}/PReLU_2")

    def forward(self, image):
        fine = self.block(self.act(image, "ConvAct_0"), "ResidualBlock_0")
        middle = self.block(self.prelu(self.down(fine, "Downscale_0"), "PReLU_0"), "ResidualBlock_1")
        x = self.block(self.prelu(self.down(middle, "Downscale_1"), "PReLU_1"), "ResidualBlock_2")
        x = self.block(self.prelu(self.up(x, "Upscale_0"), "PReLU_2") + middle, "ResidualBlock_3")
        x = self.block(self.prelu(self.up(x, "Upscale_1"), "PReLU_3") + fine, "ResidualBlock_4")
        return F.softplus(self.conv(self.project(x), "head"))


def _carried(name, value):
    """Bring a parameter to PyTorch's order, that of its pixel shuffle included: channels first, phases last."""
    value = np.asarray(value)
    if "Upscale" in name:
        value = np.moveaxis(value.reshape(*value.shape[:-1], 4, -1), -2, -1).reshape(value.shape)
    if "Downscale" in name and value.ndim == 4:
        h, w, i, o = value.shape
        value = value.reshape(h, w, 4, i // 4, o).swapaxes(2, 3).reshape(h, w, i, o)
    return (value.transpose(3, 2, 0, 1) if value.ndim == 4 else value).copy()


def _ours(batch):
    module = build("res_u_dbpn", {"channels": CHANNELS, "iterates": (), "consistency_steps": 0})
    optimizer = optax.adam(RATE)

    def loss(params, batch):
        return jnp.mean((module.apply({"params": params}, batch["image"]) - batch["target"]) ** 2), {}

    mesh = sharding.make_mesh(devices=min(CORES, len(jax.local_devices()), BATCH))
    state = steps.first_state(jax.random.key(0), module, optimizer, (1, SIDE, SIDE, 1))
    params = jax.device_get(state["params"])
    held = {"state": sharding.put_state(mesh, state), "batch": sharding.put_batch(mesh, batch)}
    step = steps.step_of(loss, optimizer, mesh=mesh)

    def call():
        held["state"], said = step(held["state"], held["batch"])
        return float(said["loss"])

    return params, call


def _theirs(params, batch, memory_format):
    network = TorchNetwork(params).to(memory_format=memory_format)
    image, target = (
        torch.tensor(batch[name].transpose(0, 3, 1, 2)).contiguous(memory_format=memory_format)
        for name in ("image", "target")
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)

    def call():
        optimizer.zero_grad(set_to_none=True)
        loss = F.mse_loss(network(image), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return call


def test_training_step(figure):
    torch.set_num_threads(CORES)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.random((BATCH, SIDE, SIDE, 1)).astype(np.float32),
        "target": rng.random((BATCH, 2 * SIDE, 2 * SIDE, 1)).astype(np.float32),
    }
    params, ours = _ours(batch)
    calls = {
        "ours": ours,
        "PyTorch, channels first": _theirs(params, batch, torch.contiguous_format),
        "PyTorch, channels last": _theirs(params, batch, torch.channels_last),
    }
    # The third loss depends on two updates of every weight.
    losses = {name: [call() for _ in range(3)] for name, call in calls.items()}
    for those in losses.values():
        np.testing.assert_allclose(those, losses["ours"], rtol=1e-4)
    wall, cpu = ({name: [] for name in calls} for _ in range(2))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter(), time.process_time()
            call()
            wall[name].append(time.perf_counter() - start[0])
            cpu[name].append(time.process_time() - start[1])
    print()
    ratios = {}
    for what, times in (("wall", wall), ("CPU", cpu)):
        medians = {name: statistics.median(t) for name, t in times.items()}
        ratios[what] = medians.pop("ours") / min(medians.values())
        found = ", ".join(f"{name} {statistics.median(t):.3f} s" for name, t in times.items())
        print(f"{what}: {found}; ours over PyTorch's better: {ratios[what]:.2f}")
        figure(f"training step: ours over PyTorch's better format, {what}", ratios[what], at_most=1)
