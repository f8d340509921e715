"""The larger recipe, which cannot be trained here, can at least be read, begun and released."""

from pathlib import Path

import jax
import numpy as np
import pytest

from dps_jax.training import steps
from dps_jax.training.config_files import read_config

FOLDER = Path(__file__).parents[2] / "experiments"


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"experiments not found at {FOLDER}")
def test_the_large_recipe():
    large, released = (read_config(FOLDER / f"train_universal{name}.toml") for name in ("_large", ""))
    assert (large.objective, large.scenes.photons) == (released.objective, released.scenes.photons)
    state = jax.eval_shape(lambda: steps.init_state(large))
    sizes = [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state["params"])]
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(state["params"]))
    # What is released is the parameters and a header of some kilobytes, 12 MB at most.
    assert 6e6 < sum(sizes) < 12e6 - 1e5
    assert large.common_parts % 16 == 0  # so many GPUs may share a batch
