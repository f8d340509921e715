"""Networks and scenes that the tests of the pipelines share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax import models
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire
from dps_jax.weights import Network, load_network


def system_of(pixel_size_nm):
    """NA 1.4 at 525 nm: an Abbe period of 187.5 nm, so that 75 nm is the canonical pixel."""
    return OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=pixel_size_nm)


def random_network(*, consistency_steps, iterates=()):
    """An untrained network: its geometry is that of a trained one, its answers are not tame."""
    sizes = {"channels": (4, 8), "consistency_steps": consistency_steps, "iterates": iterates, "abbe_px": 2.5}
    module = models.build("res_u_dbpn", sizes)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    rng = np.random.default_rng(4)

    def weights(shape):
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)

    return Network(module, jax.tree.map(lambda s: weights(s.shape), shapes), 2.5, {})


@pytest.fixture(scope="session")
def make_system():
    return system_of


@pytest.fixture(scope="session")
def released():
    return load_network()


@pytest.fixture(scope="session")
def untrained():
    return random_network(consistency_steps=0)


@pytest.fixture(scope="session")
def untrained_with_physics():
    return random_network(consistency_steps=1, iterates=(2, 6))


@pytest.fixture(scope="session")
def made():
    """A widefield exposure of a withheld family, 100 photons at its peak."""
    return acquire(3, DEMO_SYSTEM, shape=(64, 64), photons=100.0, background=2.0)


@pytest.fixture
def noisy(rng):
    """Make a random camera image: a few bright pixels on a noisy ground, structure at every frequency."""

    def draw(*shape):
        return rng.poisson(5 + 100 * rng.random(shape) ** 4).astype(np.float32)

    return draw
