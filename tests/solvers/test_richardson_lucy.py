"""Richardson-Lucy: the likelihood rises, photons stay, and scikit-image agrees where it can be compared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage import restoration

from dps_jax.optics import airy_psf, gaussian_psf
from dps_jax.pipelines.richardson_lucy import run_richardson_lucy
from dps_jax.solvers import (
    make_richardson_lucy_step,
    poisson_deviance,
    richardson_lucy,
    richardson_lucy_oracle,
    richardson_lucy_step,
    richardson_lucy_until_explained,
    variation_divergence,
)

PSF = gaussian_psf(sigma_px=1.5, size=9)
_solve = jax.jit(richardson_lucy, static_argnames=("factor", "boundary"))
_step = jax.jit(richardson_lucy_step, static_argnames=("factor", "boundary"))


def _lines(side, *, border=0):
    """A few bright lines, photons per pixel, dark within ``border`` of the edge."""
    scene = np.zeros((side, side))
    scene[side // 3, border : side - border] = 60
    scene[border : side - border, side // 2] = 40
    scene[side // 2 + 3, side // 4] = 300
    return scene


def _numpy_camera(scene, psf, factor, boundary):
    blurred = ndimage.convolve(np.asarray(scene, np.float64), np.asarray(psf, np.float64), mode=boundary)
    return sum(blurred[i::factor, j::factor] for i in range(factor) for j in range(factor))


@pytest.mark.parametrize(("factor", "boundary"), [(2, "reflect"), (2, "constant"), (1, "wrap")])
def test_the_likelihood_rises_at_every_step(factor, boundary, rng):
    scene = _lines(40) + 2.0
    counts = rng.poisson(_numpy_camera(scene, PSF, factor, boundary)).astype(np.float32)
    estimate = jnp.full(scene.shape, counts.sum() / scene.size, jnp.float32)
    likelihoods = []
    for _ in range(25):
        predicted = _numpy_camera(estimate, PSF, factor, boundary)
        likelihoods.append(float(np.sum(counts * np.log(predicted) - predicted)))
        estimate = _step(estimate, jnp.asarray(counts), PSF, factor=factor, boundary=boundary)
    # The 25th step still gains more than 1 nat; float32 estimates are known to 1e-7 of themselves, which moves the
    # likelihood by less than 1e-7 of all photons, some 1e-3.
    assert np.diff(likelihoods).min() > 0
    assert likelihoods[-1] - likelihoods[0] > 100


def test_photons_are_conserved_with_a_periodic_boundary(rng):
    counts = rng.poisson(20.0, (24, 30)).astype(np.float32)
    out = _solve(jnp.asarray(counts), PSF, iterations=30, boundary="wrap")
    assert out.shape == (48, 60)
    assert float(out.min()) >= 0
    # A^T 1 = 1 everywhere, so the sum is that of the data; float32 sums and FFTs, 30 times.
    assert float(out.sum()) == pytest.approx(counts.sum(), rel=1e-4)


@pytest.mark.parametrize("boundary", ["reflect", "constant"])
def test_photons_of_an_interior_object_are_conserved(boundary, rng):
    counts = rng.poisson(_numpy_camera(_lines(80, border=24), PSF, 2, "constant")).astype(np.float32)
    out = _solve(jnp.asarray(counts), PSF, iterations=30, boundary=boundary)
    assert float(out.sum()) == pytest.approx(counts.sum(), rel=1e-4)


def test_equals_scikit_image_on_an_interior_object(rng):
    # scikit-image convolves with zeros outside and does not divide by A^T 1, which is 1 further inside than the
    # kernel's reach of 4 px. Light keeps out of that margin here: it begins 12 px from the edge and is blurred
    # by 4, and the estimate's own support can only shrink to what the data have seen (4 px further out). A flat
    # start of any height gives the same first iterate where A 1 = 1.
    image = _numpy_camera(_lines(48, border=12), PSF, 1, "constant")
    image = np.where(image > 0, rng.poisson(image), 0).astype(np.float64)
    expected = restoration.richardson_lucy(image, np.asarray(PSF, np.float64), num_iter=15, clip=False)
    ours = _solve(jnp.asarray(image, jnp.float32), PSF, iterations=15, factor=1, boundary="constant")
    # float32 against float64: an FFT rounds to some 1e-7 of the brightest pixel, 30 of them add up to 1e-6.
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * expected.max())


def test_a_traced_number_of_iterations_is_as_good(rng):
    image = jnp.asarray(rng.poisson(9.0, (12, 12)), jnp.float32)
    np.testing.assert_allclose(
        _solve(image, PSF, iterations=jnp.asarray(4)), richardson_lucy(image, PSF, iterations=4), rtol=1e-4
    )


@pytest.mark.parametrize("options", [{}, {"accelerated": True}, {"tv_weight": 0.01, "boundary": "wrap"}])
def test_in_two_programs_or_in_one(options, rng):
    # Of a pipeline the loop is a program of its own, that writes over its start; compiled as a whole it is not.
    image = jnp.asarray(rng.poisson(9.0, (14, 12)), jnp.float32)
    before = np.array(image)
    called = run_richardson_lucy(image, PSF, iterations=6, **options)
    compiled = jax.jit(lambda i: richardson_lucy(i, PSF, iterations=6, **options))(image)
    np.testing.assert_allclose(called, compiled, rtol=1e-4)
    np.testing.assert_array_equal(image, before)


def test_it_can_be_differentiated(rng):
    image = jnp.asarray(rng.poisson(9.0, (6, 6)) + 1, jnp.float32)
    total = jax.jit(lambda i: jnp.sum(jnp.square(richardson_lucy(i, PSF, iterations=3))))
    along = jnp.asarray(rng.normal(size=(6, 6)), jnp.float32)
    slope = float(jnp.vdot(jax.jit(jax.grad(total))(image), along))
    # Central differences of float32 sums: each of some 1e3, rounded at 1e-7, over a step of 0.02.
    step = 0.01
    found = (float(total(image + step * along)) - float(total(image - step * along))) / (2 * step)
    assert slope == pytest.approx(found, rel=2e-2)


@pytest.mark.parametrize("boundary", ["constant", "reflect", "nearest", "wrap"])
@pytest.mark.parametrize("accelerated", [False, True])
def test_total_variation_at_every_boundary(boundary, accelerated, rng):
    # A weight of next to nothing is none, and nothing outside of the object gets into it.
    image = jnp.asarray(rng.poisson(9.0, (12, 14)), jnp.float32)
    options = {"iterations": 6, "factor": 1, "boundary": boundary, "accelerated": accelerated}
    plain, *varied = (richardson_lucy(image, PSF, tv_weight=w, **options) for w in (0.0, 1e-7, 0.02))
    np.testing.assert_allclose(varied[0], plain, rtol=1e-4)
    assert np.isfinite(varied[1]).all()
    gradient = jax.jit(jax.grad(lambda i: jnp.sum(richardson_lucy(i, PSF, tv_weight=0.02, **options))))
    assert np.isfinite(gradient(image)).all()


def test_a_kernel_of_one_row(rng):
    image = jnp.asarray(rng.poisson(9.0, (7, 13)), jnp.float32)
    row = jnp.asarray([[0.1, 0.2, 0.4, 0.2, 0.1]])
    options = {"iterations": 4, "factor": 1}
    found = richardson_lucy(image, row, tv_weight=1e-7, **options)
    for line, expected in zip(
        image, found, strict=True
    ):  # each row is an image of its own, but for the floor
        alone = richardson_lucy(jnp.tile(line, (3, 1)), row, **options)[1]
        np.testing.assert_allclose(expected[2:-2] / expected.sum(), alone[2:-2] / alone.sum(), rtol=0.05)


def test_a_wider_kernel_than_image():
    with jax.enable_x64(True):
        image = jnp.ones((6, 8), jnp.float32)
        found = richardson_lucy(image, np.asarray(PSF, np.float64), iterations=2)
    np.testing.assert_allclose(found, 0.25, rtol=1e-5)


def test_many_kernels_at_once(rng):
    image = jnp.asarray(rng.poisson(9.0, (10, 10)), jnp.float32)
    kernels = jnp.stack([gaussian_psf(sigma_px=w, size=7) for w in (1.0, 1.5)])
    together = jax.jit(jax.vmap(lambda k: richardson_lucy(image, k, iterations=3)))(kernels)
    np.testing.assert_allclose(together[1], richardson_lucy(image, kernels[1], iterations=3), rtol=1e-4)


def test_every_image_of_a_stack_by_itself(rng):
    images = jnp.asarray(rng.poisson(9.0, (2, 2, 12, 12)), jnp.float32)
    together = _solve(images, PSF, iterations=5)
    assert together.shape == (2, 2, 24, 24)
    np.testing.assert_allclose(together[1, 0], _solve(images[1, 0], PSF, iterations=5), rtol=1e-4)


@pytest.mark.parametrize("boundary", ["reflect", "nearest", "wrap"])
def test_a_flat_image_stays_flat(boundary):
    out = _solve(jnp.full((14, 14), 8.0), PSF, iterations=20, boundary=boundary)
    # The borders too: 8 photons on four fine pixels each.
    np.testing.assert_allclose(out, np.full((28, 28), 2.0), rtol=1e-4)


def test_it_sharpens_two_points(rng):
    scene = np.zeros((32, 32))
    scene[16, 12] = scene[16, 18] = 5000
    psf = airy_psf(abbe_px=5.0, size=21)
    image = _numpy_camera(scene, psf, 1, "constant").astype(np.float32)
    out = np.asarray(_solve(jnp.asarray(image), psf, iterations=100, factor=1, boundary="constant"))

    def dip(row):
        return 1 - row[15] / row[[12, 18]].min()

    assert dip(out[16]) > dip(image[16]) + 0.3


def test_dark_and_negative_pixels_count_as_no_light():
    np.testing.assert_allclose(_solve(jnp.zeros((8, 8)), PSF, iterations=3), np.zeros((16, 16)), atol=1e-9)
    image = jnp.full((8, 8), 4.0).at[2, 3].set(-50.0)
    out = _solve(image, PSF, iterations=10)
    assert np.all(np.isfinite(out))
    assert float(out.min()) >= 0
    clipped = image.at[2, 3].set(0.0)
    # The start is another flat level, which the first step forgets where A 1 = 1: everywhere, with "reflect".
    np.testing.assert_allclose(out, _solve(clipped, PSF, iterations=10), rtol=1e-3, atol=1e-5)


def _noisy_pair(rng):
    truth = np.stack([_lines(32), 0.05 * _lines(32)]) + 1.0
    counts = np.stack([rng.poisson(_numpy_camera(t, PSF, 2, "reflect")) for t in truth])
    return jnp.asarray(truth, jnp.float32), jnp.asarray(counts, jnp.float32)


def test_oracle_gives_up_after_its_patience(rng):
    counts = jnp.asarray(rng.poisson(20.0, (16, 16)), jnp.float32)
    steps = []

    def score(x):
        # Falls with the contrast, which every step raises: the first iterate is the best.
        jax.debug.callback(lambda v: steps.append(float(v)), x.std())
        return -x.std()

    _, at, _ = richardson_lucy_oracle(counts, PSF, score, iterations=200, patience=7)
    jax.effects_barrier()
    assert int(at) == 1
    assert len(steps) == 1 + 7


def test_oracle_keeps_the_best_iterate(rng):
    truth, counts = _noisy_pair(rng)

    def score(estimate):
        return -jnp.mean((estimate - truth) ** 2, axis=(-2, -1))

    iterations = 40
    best, at, top = jax.jit(lambda c: richardson_lucy_oracle(c, PSF, score, iterations=iterations))(counts)
    estimate, iterates, scores = jnp.full(truth.shape, jnp.nan), [], []
    for i in range(iterations):
        previous = (
            jnp.broadcast_to(counts.mean((-2, -1), keepdims=True) / 4, truth.shape) if i == 0 else estimate
        )
        estimate = _step(previous, counts, PSF)
        iterates.append(np.asarray(estimate))
        scores.append(np.asarray(score(estimate)))
    expected = np.argmax(scores, axis=0)
    # The dim image is best early and the bright one late, so that the two stop at different steps.
    assert expected[1] < iterations - 1
    assert expected[0] != expected[1]
    np.testing.assert_array_equal(at, expected + 1)
    for i, k in enumerate(expected):
        assert float(top[i]) == pytest.approx(scores[k][i], rel=1e-4)
        np.testing.assert_allclose(best[i], iterates[k][i], rtol=1e-3, atol=1e-4)


IMAGE = jnp.ones((8, 8))
REFUSED = [
    (
        lambda: richardson_lucy(IMAGE, PSF, iterations=0),
        "expected iterations to be a whole number of 1 or more, got 0",
    ),
    (
        lambda: richardson_lucy(IMAGE, PSF, iterations=2.5),
        r"expected iterations to be a whole number .*got 2\.5",
    ),
    (lambda: richardson_lucy(IMAGE, jnp.ones((4, 4))), r"odd sides, got shape \(4, 4\)"),
    (
        lambda: richardson_lucy(IMAGE, PSF, factor=0),
        "expected factor to be a whole number of 1 or more, got 0",
    ),
    (lambda: richardson_lucy(IMAGE, PSF, boundary="none"), "expected boundary to be one of .*got 'none'"),
    (
        lambda: richardson_lucy_oracle(IMAGE, PSF, lambda x: jnp.sum(x), iterations=0),
        "expected iterations to be a whole number of 1 or more, got 0",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refused_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def _deviance(counts, predicted):
    safe = np.where(counts > 0, counts, 1.0)
    return 2 * np.mean(np.where(counts > 0, counts * np.log(safe / predicted), 0) + predicted - counts)


def test_a_background_is_part_of_the_model(rng):
    expected = _numpy_camera(_lines(40, border=6), PSF, 2, "constant")
    counts = (rng.poisson(expected + 10.0)).astype(np.float32)
    blind = jax.jit(lambda i: richardson_lucy(i, PSF, iterations=60, boundary="constant"))(counts)
    aware = jax.jit(lambda i: richardson_lucy(i, PSF, iterations=60, boundary="constant", background=10.0))(
        counts
    )
    # What the object explains of the dark parts is the background itself, or nearly nothing.
    dark = _lines(40, border=6) == 0
    assert float(aware[dark].mean()) < 0.3 * float(blind[dark].mean())
    predicted = _numpy_camera(aware, PSF, 2, "constant") + 10.0
    assert _deviance(counts, predicted) == pytest.approx(1, abs=0.25)
    assert float(poisson_deviance(counts, jnp.asarray(predicted, jnp.float32))) == pytest.approx(
        _deviance(counts, predicted), rel=1e-3
    )


def test_divergence_of_the_gradient_s_direction_is_the_gradient_of_total_variation(rng):
    image = jnp.asarray(ndimage.gaussian_filter(rng.uniform(1, 2, (12, 14)), 1.0), jnp.float32)

    def variation(x):
        dy = jnp.pad(x[1:] - x[:-1], ((0, 1), (0, 0)))
        dx = jnp.pad(x[:, 1:] - x[:, :-1], ((0, 0), (0, 1)))
        return jnp.sum(jnp.sqrt(dx**2 + dy**2 + 1e-20))

    # The gradient jumps where a difference is nearly 0; such pixels are few here.
    expected = -jax.grad(variation)(image)
    assert np.median(np.abs(variation_divergence(image) - expected)) < 1e-4
    assert not np.asarray(variation_divergence(jnp.full((3, 8, 8), 5.0))).any()


def test_total_variation_keeps_noise_down(rng):
    # Dey et al. 2006: with the weight of the variation the iteration does not end in noise.
    truth = np.zeros((64, 64))
    truth[16:40, 20:50] = 10.0
    counts = rng.poisson(_numpy_camera(truth, PSF, 1, "reflect") + 0.5).astype(np.float32)
    errors = [
        np.linalg.norm(
            np.asarray(
                jax.jit(lambda i, w=w: richardson_lucy(i, PSF, iterations=100, factor=1, tv_weight=w))(counts)
            )
            - truth
        )
        for w in (0.0, 0.02)
    ]
    assert errors[1] < 0.7 * errors[0]


def test_acceleration_saves_steps(rng):
    counts = jnp.asarray(rng.poisson(_numpy_camera(_lines(64) + 2.0, PSF, 2, "reflect")), jnp.float32)

    def misfit(estimate):
        return _deviance(np.asarray(counts), _numpy_camera(estimate, PSF, 2, "reflect"))

    fast = jax.jit(lambda i: richardson_lucy(i, PSF, iterations=20, accelerated=True))(counts)
    plain = _solve(counts, PSF, iterations=60)
    assert misfit(fast) < misfit(plain)  # Biggs and Andrews 1997: three times and more
    assert float(fast.min()) >= 0
    assert np.isfinite(
        jax.jit(lambda i: richardson_lucy(i, PSF, iterations=100, accelerated=True))(counts)
    ).all()


def test_volumes(rng):
    axial = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    kernel = (axial[:, None, None] * np.asarray(PSF)[None]).astype(np.float32)
    truth = np.zeros((9, 32, 32))
    truth[4, 12, 14], truth[2, 20, 20] = 500, 300
    blurred = ndimage.convolve(truth, kernel, mode="constant")
    binned = sum(blurred[:, i::2, j::2] for i in range(2) for j in range(2))
    volume = jax.jit(lambda i: richardson_lucy(i, kernel, iterations=40, boundary="constant"))(
        binned.astype(np.float32)
    )
    assert volume.shape == truth.shape
    # Planes within the kernel's reach of the ends could have sent light outside: A^T 1 < 1 there gives some back.
    assert float(volume.sum()) == pytest.approx(truth.sum(), rel=1e-2)
    top = np.unravel_index(np.argmax(volume), truth.shape)
    assert abs(top[0] - 4) == 0
    assert max(abs(top[1] - 12), abs(top[2] - 14)) <= 1
    # Plane by plane nothing is known of the other planes: light that belongs to plane 4 stays where it fell.
    flat = jax.jit(lambda i: richardson_lucy(i, PSF, iterations=40, boundary="constant"))(
        binned.astype(np.float32)
    )
    assert float(volume[4, 10:16, 12:18].sum()) > 1.5 * float(flat[4, 10:16, 12:18].sum())


@pytest.mark.parametrize("accelerated", [False, True])
def test_it_stops_where_the_photons_are_explained(rng, accelerated):
    truth = _lines(96) + 0.0
    truth = ndimage.gaussian_filter(truth, 1.0) * 4
    background = 3.0
    expected = _numpy_camera(truth, PSF, 2, "reflect") + background
    counts = rng.poisson(expected).astype(np.float32)
    stop = jax.jit(
        lambda i: richardson_lucy_until_explained(i, PSF, background=background, accelerated=accelerated)
    )
    estimate, steps = stop(counts)
    assert 2 <= int(steps) < 500
    predicted = _numpy_camera(estimate, PSF, 2, "reflect") + background
    assert _deviance(counts, predicted) <= 1.001
    # Bertero et al. 2010: the stop is near the best step for the truth. Here within 1 dB of the oracle's, and within
    # 2 for accelerated steps, which are longer and pass it by up to one.
    score = lambda x: -jnp.sum((x - truth.astype(np.float32)) ** 2)  # noqa: E731
    _, _, best = jax.jit(lambda i: richardson_lucy_oracle(i, PSF, score, iterations=300))(
        jnp.maximum(counts - background, 0.0)
    )
    loss = 10 * np.log10(float(np.sum((np.asarray(estimate) - truth) ** 2)) / -float(best))
    assert loss < (2.0 if accelerated else 1.0)


def test_new_options_refuse(rng):
    image = jnp.ones((8, 8))
    with pytest.raises(ValueError, match="tv_weight to be a finite number of 0 or more"):
        richardson_lucy(image, PSF, tv_weight=-0.1)
    with pytest.raises(ValueError, match=r"one image of 2 axes, as the kernel, got shape \(2, 8, 8\)"):
        richardson_lucy_until_explained(jnp.ones((2, 8, 8)), PSF)
    with pytest.raises(ValueError, match="discrepancy to be a finite number above 0"):
        richardson_lucy_until_explained(image, PSF, discrepancy=0.0)


def test_pixels_that_were_not_measured_ask_for_nothing(rng):
    scene = _lines(40) + 2.0
    counts = rng.poisson(_numpy_camera(scene, PSF, 2, "reflect")).astype(np.float32)
    measured = np.ones(counts.shape, np.float32)
    measured[:, -6:], measured[4, 4] = 0, 0
    spoiled = np.where(measured > 0, counts, 1e4).astype(np.float32)
    estimates = [
        richardson_lucy(jnp.asarray(c), PSF, iterations=8, measured=jnp.asarray(measured))
        for c in (counts, spoiled)
    ]
    # What stands there does not matter but for its part in the floor of the prediction, a millionth of the mean.
    np.testing.assert_allclose(*estimates, rtol=1e-4, atol=1e-5)
    with pytest.raises(
        ValueError, match=r"expected measured of the image's sides \(20, 20\), got shape \(20, 19\)"
    ):
        richardson_lucy(jnp.asarray(counts), PSF, measured=jnp.ones((20, 19)))


def test_the_likelihood_of_what_was_measured_rises(rng):
    scene = _lines(40) + 2.0
    counts = rng.poisson(_numpy_camera(scene, PSF, 2, "reflect")).astype(np.float32)
    measured = np.ones(counts.shape, np.float32)
    measured[:, -6:] = 0
    step = jax.jit(make_richardson_lucy_step(jnp.asarray(counts), PSF, measured=jnp.asarray(measured)))
    estimate, likelihoods = jnp.full(scene.shape, counts.sum() / scene.size, jnp.float32), []
    for _ in range(15):
        predicted = _numpy_camera(estimate, PSF, 2, "reflect")
        likelihoods.append(float(np.sum(measured * (counts * np.log(predicted) - predicted))))
        estimate = step(estimate)
    assert np.diff(likelihoods).min() > 0
