"""What lies just outside of a frame, as the frame itself tells: nearer to the truth than the frame's mirror image."""

import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.operators import camera_image
from dps_jax.optics import airy_psf
from dps_jax.solvers import continue_image

ABBE_PX, EDGE = 2.5, 8


@pytest.fixture(scope="module")
def wide():
    """Camera image of points and a line, some of them in the last pixels outside of the frame."""
    rng = np.random.default_rng(3)
    scene = np.zeros((112, 112), np.float32)
    scene[tuple(rng.integers(0, 112, (2, 60)))] = rng.uniform(200, 800, 60)
    scene[11:14, :] += 60
    return np.asarray(camera_image(jnp.asarray(scene), airy_psf(abbe_px=2 * ABBE_PX), boundary="reflect"))


def test_the_margin_is_nearer_to_the_truth_than_a_mirror_image(wide):
    measured = np.zeros_like(wide)
    measured[EDGE:-EDGE, EDGE:-EDGE] = 1
    frame = wide[EDGE:-EDGE, EDGE:-EDGE]
    found = np.asarray(
        continue_image(jnp.pad(frame, EDGE), jnp.asarray(measured), abbe_px=ABBE_PX, iterations=60)
    )
    assert np.array_equal(found[EDGE:-EDGE, EDGE:-EDGE], frame)
    # Within one Abbe period, from where light of a point still reaches into the frame.
    near = np.zeros(wide.shape, bool)
    near[EDGE - 2 : 2 - EDGE, EDGE - 2 : 2 - EDGE] = True
    near &= measured == 0
    mirror = np.pad(frame, EDGE, mode="symmetric")
    errors = [np.linalg.norm((image - wide)[near]) for image in (found, mirror)]
    assert errors[0] < 0.5 * errors[1]


def test_what_is_far_from_all_that_was_measured_tends_to_the_mean(wide):
    measured = np.zeros_like(wide)
    measured[:20] = 1
    found = np.asarray(continue_image(jnp.asarray(wide), jnp.asarray(measured), abbe_px=ABBE_PX))
    # Beyond three periods the PSF's radius ends: not a photon of the estimate there was seen, and none was changed, but
    # for the rounding of the FFT (3e-7 of 1, over the least weight of 0.02, fourteen times and extrapolated).
    assert found[-8:] == pytest.approx(wide[:20].mean(), rel=4e-4)


def _mirror(length, margin):
    places = np.abs(np.arange(-margin, length - margin) + 0.5) - 0.5
    inner = length - 2 * margin
    return jnp.asarray(np.minimum(places, 2 * inner - 1 - places).astype(int) + margin)


def test_the_margin_has_the_noise_of_the_frame_and_not_its_structure():
    level, margin = 25.0, 12
    image = np.random.default_rng(8).poisson(level, (120, 90)).astype(np.float32)
    image[60, 20:70] += 40 * level  # far inside, at no place that is anyone's mirror image but its own
    image[margin + 1, 40] += 40 * level  # a hot pixel, which no light explains, beside the edge
    measured = np.zeros(image.shape, np.float32)
    measured[margin:-margin, margin:-margin] = 1
    mirror = (_mirror(120, margin), _mirror(90, margin))
    options = {"abbe_px": ABBE_PX, "iterations": 14}
    smooth, found = (
        np.asarray(continue_image(jnp.asarray(image), jnp.asarray(measured), noise_from=n, **options))
        for n in (None, mirror)
    )
    inside = measured > 0
    assert np.array_equal(found[inside], image[inside])
    noise = (found - smooth)[~inside] / np.sqrt(np.maximum(smooth[~inside], 0))
    # Normal noise cut at one standard error keeps 0.72 of its deviation, and the fit has taken up a part of it: between
    # two thirds of that and all of it, five standard errors of 5,000 values aside.
    assert 0.46 < noise.std() < 0.76
    assert abs(noise.mean()) < 0.1
    assert np.abs(noise).max() < 1.2  # where the hot pixel, mirrored, would be 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"abbe_px": 2.5, "noise_from": (jnp.arange(16), jnp.arange(15))}, r"got \(16, 15\)"),
        ({"abbe_px": 0.0}, "abbe_px"),
        ({"abbe_px": 2.5, "iterations": 0}, "iterations"),
        ({"abbe_px": 2.5, "dark": -1.0}, "dark"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        continue_image(jnp.ones((16, 16)), jnp.ones((16, 16)), **options)
