"""Shifts of patches: the field against a dense solution, noise against what was drawn, certainty against trials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.solvers.patch_shifts import found_shifts, matched_patches, noise_variance, smooth_field


def laplacian_matrix(rows, columns):
    """Return the graph's Laplacian, written out edge by edge."""
    matrix = np.zeros((rows * columns,) * 2)
    for y in range(rows):
        for x in range(columns):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < rows and u < columns:
                    a, b = y * columns + x, v * columns + u
                    matrix[[a, b], [a, b]] += 1
                    matrix[[a, b], [b, a]] -= 1
    return matrix


def test_the_field_is_the_most_likely_one(rng):
    shifts = rng.normal(size=(2, 5, 6, 2)).astype(np.float32)
    root = rng.normal(size=(2, 5, 6, 2, 2))
    information = (20 * root @ root.swapaxes(-1, -2)).astype(np.float32)
    roughness = 0.2
    found = np.asarray(smooth_field(jnp.asarray(shifts), jnp.asarray(information), roughness_px=roughness))
    laplacian = laplacian_matrix(5, 6)
    smooth = np.kron(laplacian @ laplacian, np.eye(2)) / roughness**2
    for image in range(2):
        # The covariance of a patch is that of its information, and a hundredth of a pixel.
        weights = [
            np.linalg.inv(np.linalg.inv(w) + 1e-4 * np.eye(2)) for w in information[image].reshape(-1, 2, 2)
        ]
        own = np.zeros((60, 60))
        for k, w in enumerate(weights):
            own[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = w
        exact = np.linalg.solve(own + smooth, own @ shifts[image].ravel()).reshape(5, 6, 2)
        # Thirty steps of conjugate gradients for 60 unknowns, some patches nearly blind: hundredths of what was drawn.
        np.testing.assert_allclose(found[image], exact, rtol=0, atol=0.03)


def test_slopes_cost_nothing_and_blind_patches_follow_their_neighbours():
    y, x = np.indices((5, 7), np.float32)
    slope = np.stack([0.1 * y - 0.2 * x, 0.3 * x], axis=-1)
    information = np.broadcast_to(400 * np.eye(2, dtype=np.float32), (5, 7, 2, 2)).copy()
    given = slope.copy()
    information[2, 3] = 0
    given[2, 3] = 2.0
    found = np.asarray(smooth_field(jnp.asarray(given), jnp.asarray(information), roughness_px=0.1))
    # At the borders the sum of differences of a slope is not 0: inside, it is.
    np.testing.assert_allclose(found[2, 3], slope[2, 3], rtol=0, atol=0.05)
    nothing = smooth_field(jnp.asarray(given), jnp.zeros((5, 7, 2, 2)), roughness_px=0.1)
    assert np.isfinite(np.asarray(nothing)).all()


def test_noise_is_measured_over_structure(rng):
    y, x = np.indices((96, 96))
    scene = 50 + 30 * np.sin(y / 4) * np.cos(x / 5)
    noisy = scene + rng.normal(0, 6, (3, 96, 96))
    found = noise_variance(jnp.asarray(noisy, jnp.float32), jnp.asarray(scene, jnp.float32)).mean((-2, -1))
    # The scatter of a mean of 9216 squares, of which about a third are independent: 2 to 3 %.
    np.testing.assert_allclose(found, 36, rtol=0.1)


def test_the_certainty_of_a_patch_is_that_of_its_trials(rng):
    y, x = np.indices((24, 24)) - 11.5
    scene = 40 * np.exp(-(y**2) / 8 - x**2 / 32)  # seen better along y
    template = jnp.asarray(scene[None, None], jnp.float32)
    matched = matched_patches(template, smoothing_sigma_px=1.0, whitening=0.5)
    noisy = scene + rng.normal(0, 3, (400, 1, 1, 24, 24))
    found = np.asarray(
        jax.jit(lambda i: found_shifts(i, matched, largest_px=3.0))(jnp.asarray(noisy, jnp.float32))
    )[:, 0, 0]
    expected = np.diag(np.linalg.inv(np.asarray(matched.information)[0, 0] / 9))
    # 400 trials know a width to 4 %; the parabola through nine values errs by two hundredths of a pixel more.
    np.testing.assert_allclose(found.std(0), np.sqrt(expected), rtol=0.1, atol=0.02)
    assert found.var(0)[1] > 1.5 * found.var(0)[0]
    np.testing.assert_allclose(found.mean(0), [0, 0], rtol=0, atol=4 * np.sqrt(expected.max() / 400))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.3, -2.2)])
def test_the_peak_is_found_between_the_positions(shift):
    y, x = np.indices((24, 24))

    def blob(dy, dx):
        return 40 * np.exp(-((y - 11.0 - dy) ** 2 + (x - 12.0 - dx) ** 2) / 18)

    matched = matched_patches(
        jnp.asarray(blob(0, 0)[None, None], jnp.float32), smoothing_sigma_px=1.0, whitening=0.5
    )
    found = found_shifts(jnp.asarray(blob(*shift)[None, None], jnp.float32), matched, largest_px=3.0)
    # One pass: the window hides some of what moved; of a blob half as wide as itself, a seventh of the way.
    np.testing.assert_allclose(found[0, 0], shift, rtol=0.15, atol=0.01)
    assert float(jnp.abs(found_shifts(jnp.zeros((1, 1, 24, 24)), matched, largest_px=3.0)).max()) == 0
