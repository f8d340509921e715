"""Motions are the published ones, their inverses undo them, and their time courses keep their rates."""

import numpy as np
import pytest

from dps_jax.synthetic import deformations


def test_bump_flow_is_the_published_sum():
    flow = deformations.bump_flow(np.random.default_rng(7), (40, 50), bumps=4, shift_px=3.0, sigma_px=6.0)
    again = np.random.default_rng(7)
    vectors, places = again.normal(0, 3.0, (2, 4)), again.uniform(0, 1, (2, 4)) * [[39], [49]]
    expected = np.zeros((2, 40, 50))
    for y in range(40):
        for x in range(50):
            weight = np.exp(-((y - places[0]) ** 2 + (x - places[1]) ** 2) / (2 * 6.0**2)) / (2 * np.pi)
            expected[:, y, x] = vectors @ weight
    np.testing.assert_allclose(flow, expected, rtol=0, atol=1e-12)


def test_bump_flow_has_the_published_size():
    # A bump covers pi sigma^2 of the area with its squared Gaussian; those at the border lose up to a half of it.
    square = np.mean([deformations.bump_flow(np.random.default_rng(s), (64, 64)) ** 2 for s in range(300)])
    inside = 10 * (3 / (2 * np.pi)) ** 2 * np.pi * 0.18**2
    assert 0.5 * inside < square < 1.1 * inside


def test_the_displacement_undoes_the_flow():
    flow = np.stack([3 * deformations.bump_flow(np.random.default_rng(s), (64, 72)) for s in range(2)])
    displacement = deformations.invert_flow(flow)
    y, x = np.indices((64, 72)) / 9.0

    def pattern(y, x):
        return 2 + np.sin(y) * np.cos(0.8 * x)

    # The frame is drawn in closed form, and read along the flow: only cubic interpolation errs, by about (1/9)^4.
    for there, back in zip(flow, displacement, strict=True):
        frame = pattern(y + back[0] / 9, x + back[1] / 9)
        corrected = deformations.displaced(frame, there)
        np.testing.assert_allclose(corrected[6:-6, 6:-6], pattern(y, x)[6:-6, 6:-6], rtol=0, atol=2e-3)
    # Near the border the inverse of the inverse reads edge values in place of what was there.
    back = deformations.invert_flow(displacement)
    np.testing.assert_allclose(back[..., 8:-8, 8:-8], flow[..., 8:-8, 8:-8], rtol=0, atol=0.01)


def test_invert_refuses_a_tear():
    torn = np.zeros((2, 20, 20))
    torn[1, :, 10:] = 6.0
    with pytest.raises(ValueError, match="expected a flow that can be inverted"):
        deformations.invert_flow(torn)


def test_displaced_by_whole_pixels_moves_pixels(rng):
    movie = rng.uniform(size=(3, 20, 24))
    shift = np.broadcast_to(np.array([2.0, -3.0])[:, None, None], (2, 20, 24))
    moved = deformations.displaced(movie, shift)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved[:, :18, 3:], movie[:, 2:, :-3], rtol=0, atol=1e-6)
    each = deformations.displaced(movie, np.stack([shift, 0 * shift, shift]))
    np.testing.assert_allclose(each[1], movie[1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(each[2], moved[2], rtol=0, atol=1e-6)


def test_lines_are_scanned_one_after_another():
    times = deformations.line_times_s(3, 4, frame_rate_hz=10.0)
    np.testing.assert_allclose(times.ravel(), np.arange(12) / 40, rtol=1e-12)
    course = np.stack([times, -2 * times])
    displacement = deformations.scan_line_displacement(course, 5)
    assert displacement.shape == (3, 2, 4, 5)
    np.testing.assert_array_equal(displacement[2, 1, 3], np.full(5, 2 * times[2, 3]))
    assert np.ptp(displacement, axis=-1).max() == 0


def test_drift_is_steady(rng):
    times = deformations.line_times_s(50, 8)
    course = deformations.drift(rng, times, speed_px_per_s=0.5)
    assert course.shape == (2, 50, 8)
    np.testing.assert_allclose(np.hypot(*course), 0.5 * times, rtol=1e-12)


@pytest.mark.parametrize(
    ("draw", "rate", "amplitude"), [(deformations.breathing, 2.0, 1.5), (deformations.heartbeat, 8.0, 0.3)]
)
def test_pulses_have_their_rate_and_size(draw, rate, amplitude, rng):
    times = np.arange(0, 60, 0.005)
    course = draw(rng, times, rate_hz=rate, amplitude_px=amplitude)
    size = np.hypot(*course)
    # Sizes vary by a tenth from beat to beat: four standard deviations above.
    assert 0.7 * amplitude < size.max() < 1.45 * amplitude
    assert size.min() < 0.05 * amplitude
    # One direction for all.
    assert np.linalg.matrix_rank(course, tol=1e-9) == 1
    power = np.abs(np.fft.rfft(size - size.mean())) ** 2
    # Periods vary by a tenth, so the line is broadened; the strongest is still nearest to the rate.
    assert np.fft.rfftfreq(len(times), 0.005)[power.argmax()] == pytest.approx(rate, rel=0.15)


REFUSED = {
    "shape": (lambda rng: deformations.bump_flow(rng, (3, 4, 5)), r"expected shape as \(y, x\)"),
    "bumps": (lambda rng: deformations.bump_flow(rng, (8, 8), bumps=0), "expected bumps"),
    "width": (lambda rng: deformations.bump_flow(rng, (8, 8), sigma_px=0.0), "expected sigma_px"),
    "times": (lambda rng: deformations.breathing(rng, np.array([-1.0])), "expected times in seconds"),
    "rate": (lambda rng: deformations.heartbeat(rng, np.arange(3.0), rate_hz=0.0), "expected rate_hz"),
    "course": (lambda rng: deformations.scan_line_displacement(np.zeros((2, 3)), 4), "expected a course"),
    "flow": (lambda rng: deformations.invert_flow(np.zeros((3, 8, 8))), r"expected a flow \(..., 2, y, x\)"),
    "pairs": (
        lambda rng: deformations.displaced(np.zeros((3, 8, 8)), np.zeros((2, 2, 8, 8))),
        "expected a displ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, rng):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call(rng)
