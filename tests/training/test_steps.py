"""One step: what the loss looks at, what it computes, and that devices share it without changing it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, signal, special

from dps_jax.optics.psf import airy_psf
from dps_jax.training import sharding, steps
from dps_jax.training.data import make_batches


@pytest.fixture(scope="module")
def config(make_config):
    # With the physics inside: its FFTs are what a compiler is tempted to gather on every device.
    network = {"consistency_steps": 1, "iterates": (2, 3)}
    return make_config(batch=8, objective={"shrunk_share": 0.5}, network=network)


@pytest.fixture(scope="module")
def batch(config):
    return make_batches(config)(0)


@pytest.fixture(scope="module")
def step(config):
    return steps.make_step(config)


@pytest.fixture(scope="module")
def params(config):
    return jax.device_get(steps.init_state(config)["params"])


def put(config, batch, devices):
    mesh = sharding.make_mesh(devices=devices)
    return sharding.put_state(mesh, steps.init_state(config)), sharding.put_batch(mesh, batch)


def distance(a, b):
    """Norm of the difference of two trees relative to the norm of the first."""
    a, b = (np.concatenate([np.ravel(x).astype(np.float64) for x in jax.tree.leaves(t)]) for t in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(a)


def test_there_are_four_devices():
    assert len(jax.local_devices()) == 4


def test_four_devices_share_a_batch(config, batch):
    _, shared = put(config, batch, 4)
    assert len(shared["input"].sharding.device_set) == 4
    assert shared["input"].addressable_shards[0].data.shape[0] == config.batch // 2 // 4


def gradient_of(config, batch, devices, dtype):
    mesh = sharding.make_mesh(devices=devices)
    state, shared = put(config, {k: v.astype(dtype) for k, v in batch.items()}, devices)
    params = jax.tree.map(lambda p: p.astype(dtype), state["params"])
    loss = sharding.mean_over_devices(mesh, steps.make_loss(config))
    return jax.device_get(jax.jit(jax.grad(loss, has_aux=True))(params, shared)[0])


PHYSICS = {"consistency_steps": 1, "iterates": (2, 3)}


@pytest.mark.parametrize("physics", [{}, PHYSICS], ids=["as published", "physics inside"])
def test_gradient_of_four_devices_is_that_of_one(make_config, batch, physics):
    config = make_config(batch=8, objective={"shrunk_share": 0.5}, network=physics)
    with jax.enable_x64(True):
        one, four = (gradient_of(config, batch, devices, "float64") for devices in (1, 4))
    assert distance(one, four) < 1e-12  # double rounds at 1e-16; the sharing itself changes nothing
    one, four = (gradient_of(config, batch, devices, "float32") for devices in (1, 4))
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(four))
    # In single precision the order of the sums differs. A gradient is what is left of terms that cancel, here of some
    # twenty times its size, each rounded at 6e-8. Richardson-Lucy divides by predictions down to the dark level of
    # 0.03, which lets rounding grow further.
    assert distance(one, four) < (1e-5 if physics else 1e-6)


# Each network and each optimiser once: their gradients are compared above, and what an optimiser makes of a gradient
# does not depend on the network.
@pytest.mark.parametrize(
    ("physics", "tolerance", "optimizer"),
    [({}, 1e-6, "adam"), (PHYSICS, 1e-5, "muon")],
    ids=["as published, adam", "physics inside, muon"],
)
def test_steps_of_four_devices_are_those_of_one(make_config, batch, physics, tolerance, optimizer):
    config = make_config(
        batch=8, objective={"shrunk_share": 0.5}, network=physics, optimizer={"name": optimizer}
    )
    results = []
    for devices in (1, 4):
        update = steps.make_step(config, mesh=sharding.make_mesh(devices=devices))
        state, shared = put(config, batch, devices)
        state, _ = update(state, shared)  # its learning rate is 0: warm-up begins there
        results.append(jax.device_get(update(state, shared)))
    (one, one_says), (four, four_says) = results
    assert distance(one["params"], four["params"]) < tolerance
    assert one_says["loss"] == pytest.approx(four_says["loss"], rel=tolerance)
    assert one_says["gradient_norm"] == pytest.approx(four_says["gradient_norm"], rel=10 * tolerance)
    assert one_says["update_norm"] > 0
    assert int(one["step"]) == int(four["step"]) == 2


def test_no_device_is_sent_another_ones_images(config, batch):
    state, shared = put(config, batch, 4)
    step = steps.make_step(config, mesh=sharding.make_mesh(devices=4))
    compiled = step.lower(state, shared).compile().as_text()
    assert "all-reduce" in compiled  # of the gradient
    assert not any(word in compiled for word in ("all-gather", "all-to-all", "collective-permute"))


def test_a_batch_that_does_not_divide_is_refused(batch):
    with pytest.raises(
        ValueError, match="expected a batch that is a multiple of the 3 devices, got 4 in 'input'"
    ):
        sharding.put_batch(sharding.make_mesh(devices=3), batch)


@pytest.mark.parametrize("devices", [0, 5])
def test_devices_that_do_not_exist_are_refused(devices):
    with pytest.raises(ValueError, match=f"expected between 1 and 4 devices, got {devices}"):
        sharding.make_mesh(devices=devices)


def test_the_state_is_donated(config, batch, step):
    state, shared = put(config, batch, 1)
    before = jax.tree.leaves(state["params"])
    new, diagnostics = step(state, shared)
    assert all(leaf.is_deleted() for leaf in before)
    assert int(new["step"]) == 1
    terms = {"weighted_l2", "ssim", "hessian", "sparsity", "shrunk", "shrunk_fine"}
    norms = {"gradient_norm", "parameter_norm", "update_norm"}
    assert set(diagnostics) == {"loss", "skipped", "skipped_in_a_row"} | norms | terms
    assert all(np.isfinite(v) for v in diagnostics.values())


class _Watched(dict):
    """A batch that remembers what was looked at."""

    def __init__(self, values):
        super().__init__(values)
        self.seen = set()

    def __getitem__(self, name):
        self.seen.add(name)
        return super().__getitem__(name)


def test_the_loss_sees_no_truth(config, batch, params):
    watched = _Watched({**batch, "truth": np.zeros((4, 64, 64))})
    jax.eval_shape(lambda p: steps.make_loss(config)(p, watched), params)
    names = {"input", "target", "photons"}
    assert watched.seen == names | {f"shrunk_{name}" for name in names}


@pytest.fixture(scope="module")
def simple(make_config):
    """Squared error and sparsity alone, so that SciPy can follow."""
    objective = {"weighted_l2": 0.0, "ssim": 0.0, "hessian": 0.0, "sparsity": 0.3, "l2": 2.0}
    network = {"consistency_steps": 1, "iterates": (2, 3)}
    config = make_config(
        batch=8, objective=objective | {"shrunk_share": 0.5, "margin_px": 6}, network=network
    )
    return config, jax.jit(steps.make_loss(config))


def estimates(config, params, images):
    module = steps.network_of(config)
    assert module.abbe_px == config.scenes.abbe_px
    found = jax.jit(module.apply)({"params": params}, images[..., None])
    return np.asarray(found[..., 0], np.float64)


def test_the_loss_by_hand(simple, batch, params):
    # With SciPy: blur, bin, crop, square, weigh by the photons.
    config, loss = simple
    margin = config.objective.margin_px
    inner = (slice(None), *[slice(2 * margin, -2 * margin)] * 2)
    estimate = estimates(config, params, batch["input"])
    psf = np.asarray(airy_psf(abbe_px=5.0), np.float64)
    seen = np.stack([signal.fftconvolve(e, psf, mode="same") for e in estimate])
    predicted = seen.reshape(4, 32, 2, 32, 2).sum((2, 4))
    error = ((predicted - batch["target"])[:, margin:-margin, margin:-margin] ** 2).mean((1, 2))
    sparsity = np.abs(estimate[inner]).mean()
    physics = 2.0 * np.mean(error * (batch["photons"] / 100) ** 0.5) + 0.3 * sparsity

    shrunk = estimates(config, params, batch["shrunk_input"])
    importance = (batch["shrunk_photons"] / 100) ** 0.5
    errors = {}
    # In full detail, and at the promised resolution: a Gaussian of 0.3 Abbe periods of 5 fine px, averaged over the
    # pixels and cut at 4 sigma.
    steps_px = np.arange(-6, 8) - 0.5
    view = np.diff(special.erf(steps_px / (1.5 * np.sqrt(2))))
    for name, taps in (("shrunk_fine", np.ones(1)), ("shrunk", view / view.sum())):
        x, t = (
            ndimage.convolve1d(ndimage.convolve1d(4 * i.astype(np.float64), taps, 1), taps, 2)[inner]
            for i in (shrunk, batch["shrunk_target"])
        )
        # The variance of photon noise grows with the prediction: 0.03 + x.
        errors[name] = ((x - t) ** 2 / (0.03 + x)).mean((1, 2))
    transfer = np.mean((10.0 * errors["shrunk"] + 0.5 * errors["shrunk_fine"]) * importance)

    total, terms = loss(params, batch)
    # float32 convolutions of values of order 1.
    assert set(terms) == {"l2", "sparsity", "shrunk", "shrunk_fine"}
    assert float(terms["l2"]) == pytest.approx(error.mean(), rel=1e-4)
    assert float(terms["sparsity"]) == pytest.approx(sparsity, rel=1e-4)
    assert float(terms["shrunk_fine"]) == pytest.approx(errors["shrunk_fine"].mean(), rel=1e-4)
    assert float(terms["shrunk"]) == pytest.approx(errors["shrunk"].mean(), rel=1e-4)
    assert float(total) == pytest.approx((physics + transfer) / 2, rel=1e-4)  # half of the batch each


def test_more_photons_count_more(simple, batch, params):
    # With twice the photons everywhere, fidelity grows by 2^exponent and the regularizers stay.
    config, loss = simple
    once, terms = loss(params, batch)
    twice, _ = loss(params, {k: 2 * v if k.endswith("photons") else v for k, v in batch.items()})
    regularizers = 0.5 * 0.3 * float(terms["sparsity"])
    growth = (float(twice) - regularizers) / (float(once) - regularizers)
    assert growth == pytest.approx(2**config.objective.photon_exponent, rel=1e-4)


def test_the_start_is_a_function_of_the_seed(make_config):
    first, again, other = (jax.device_get(steps.init_state(make_config(seed=s))["params"]) for s in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (first, again)), strict=True))
    assert distance(first, other) > 0.1


def test_gradients_are_clipped(make_config):
    # Gradients of norm 10 and 1000 in one direction must lead to one and the same update.
    optimizer = steps.make_optimizer(
        make_config(optimizer={"name": "adam", "warmup_steps": 1}).optimizer, 100
    )
    params = {"w": jnp.zeros(3)}
    updates = []
    for size in (10.0, 1000.0):
        state = optimizer.init(params)
        for direction in ((0.6, 0.8, 0.0), (0.0, 0.6, 0.8)):
            update, state = optimizer.update({"w": size * jnp.asarray(direction)}, state, params)
        updates.append(np.asarray(update["w"]))
        mean = np.asarray(state[1][0].mu["w"])  # Adam's running mean of unit gradients, 0.1 each
        assert np.allclose(mean, 0.1 * np.array([0.9 * 0.6, 0.9 * 0.8 + 0.6, 0.8]), rtol=1e-5)
    assert np.allclose(*updates, rtol=1e-5)
    assert np.abs(updates[0]).max() > 1e-4
