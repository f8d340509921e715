"""Weak scaling on paper: what of its speed a device keeps when 8, 64 or 512 of them train with a batch each.

Question: the gradients of all devices are summed once per step. How much time does that take beside the step itself?

Command:   python experiments/scaling.py            (the step of this machine is measured: two minutes on 2 CPU cores)
           python experiments/scaling.py --step-s 1.2      (or given)
Expected:  on this machine the step is two to four orders of magnitude longer than the sum: 99 % or more at 512 devices
           over 100 Gb/s Ethernet. For the large variant, whose step on a GPU is assumed and not measured (there was
           none), 97, 70 and 32 % at 8, 64 and 512 GPUs with the sum exposed, and 100, 100 and 40 % overlapped: its
           3 ms step is too short for a ring of 512 links, and larger batches or a tree would be called for.

The model: a ring all-reduce (Patarasuk and Yuan 2009) of ``B`` bytes among ``n`` devices takes ``2 (n - 1) / n B / w``
at the bandwidth ``w`` of the slowest link, and ``2 (n - 1)`` latencies. Divided parameters (``parallel.model_shards``)
take as much: one gathering and one scattered sum are the two halves of an all-reduce. "Exposed" adds all of it to the
step; "overlapped" lets it hide behind the backward pass, two thirds of the step, as a scheduler on a GPU can and the
CPU does not. Stragglers, the reading of data and checkpoints are not in it, and neither are trees, which need fewer
latencies than a ring where many devices sum little. Efficiency is the time of a step alone over that among ``n``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread

HERE = Path(__file__).parent
DEVICES = (8, 64, 512)
BACKWARD = 2 / 3
_ROUNDS = 7


@dataclass(frozen=True)
class Link:
    """The slowest link of a ring: bandwidth each way, in bytes per second, and latency."""

    name: str
    bytes_per_s: float
    latency_s: float


# Data-sheet rates; latencies as commonly measured between programs.
ETHERNET = Link("100 Gb/s Ethernet", 12.5e9, 20e-6)
NVLINK = Link("NVLink 4, 450 GB/s each way", 450e9, 2e-6)
INFINIBAND = Link("400 Gb/s InfiniBand per GPU", 50e9, 5e-6)
# An H100 SXM by its data sheet, dense bfloat16, and the share of it that the step is asked to reach.
GPU_FLOPS, GPU_SHARE = 989e12, 0.4


def all_reduce_s(size: float, devices: int, link: Link) -> float:
    """Return the seconds of a ring all-reduce of ``size`` bytes."""
    return 2 * (devices - 1) * (size / devices / link.bytes_per_s + link.latency_s)


def efficiency(step_s: float, exchange_s: float, *, hidden_s: float = 0.0) -> float:
    """Return the share of its speed that a device keeps."""
    return step_s / (step_s + max(0.0, exchange_s - hidden_s))


def report(name: str, step_s: float, size: float, links: dict[int, Link]) -> None:
    print(f"\n{name}: step {1e3 * step_s:.3g} ms, gradients {size / 1e6:.1f} MB (float32)")
    print(f"{'devices':>8}  {'link':<28}{'all-reduce':>11}{'exposed':>10}{'overlapped':>12}")
    for devices, link in links.items():
        exchange = all_reduce_s(size, devices, link)
        kept = [efficiency(step_s, exchange, hidden_s=h) for h in (0.0, BACKWARD * step_s)]
        print(
            f"{devices:>8}  {link.name:<28}{1e3 * exchange:>8.2f} ms{100 * kept[0]:>8.1f} %{100 * kept[1]:>10.1f} %"
        )


def main() -> None:
    """Measure or take the step, and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step-s", type=float, help="seconds per step of the released recipe on one device")
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    import jax

    from dps_jax.training import data, sharding, steps
    from dps_jax.training.config_files import read_config
    from dps_jax.training.throughput import model_flops

    mesh = sharding.make_mesh(devices=1)

    def abstract(config):
        """Return a recipe's step, lowered for one device without an array made, and the size of its parameters."""
        state = jax.eval_shape(lambda: steps.init_state(config))
        batch = jax.eval_shape(lambda: _shapes(config))
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state["params"]))
        return steps.make_step(config, mesh=mesh).lower(state, batch), size

    def _shapes(config):
        side, n, m = config.scenes.patch_px, config.exposures, config.shrunk_count
        shapes = {"input": (n, side, side), "target": (n, side, side), "photons": (n,)}
        shapes |= {
            "shrunk_input": (m, side, side),
            "shrunk_target": (m, 2 * side, 2 * side),
            "shrunk_photons": (m,),
        }
        return {name: jax.numpy.zeros(shape) for name, shape in shapes.items()}

    released = read_config(HERE / "train_universal.toml")
    lowered, size = abstract(released)
    step_s = arguments.step_s
    if step_s is None:
        state = sharding.put_state(mesh, steps.init_state(released))
        batch = sharding.put_batch(mesh, data.make_batches(released)(0))
        compiled, times = lowered.compile(), []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            state, _ = jax.block_until_ready(compiled(state, batch))
            times.append(time.perf_counter() - start)
        step_s = statistics.median(times[1:])
    how = "given" if arguments.step_s else f"measured on one {jax.default_backend()} device of this machine"
    report(
        f"Released recipe, batch {released.batch} per device, {how}",
        step_s,
        size,
        dict.fromkeys(DEVICES, ETHERNET),
    )
    large = read_config(HERE / "train_universal_large.toml")
    lowered, size = abstract(large)
    flops = model_flops(lowered, mesh)
    print(
        f"\nNo GPU was measured. Assumed: {GPU_SHARE:.0%} of {GPU_FLOPS / 1e12:.0f} TFLOP/s (H100, bfloat16) for the "
        f"{flops / 1e12:.2f} TFLOP of a step; 8 GPUs on NVLink, more over InfiniBand."
    )
    report(
        f"Large variant, batch {large.batch} per GPU, assumed",
        flops / (GPU_SHARE * GPU_FLOPS),
        size,
        {8: NVLINK, 64: INFINIBAND, 512: INFINIBAND},
    )


if __name__ == "__main__":
    main()
