"""Restore: geometry, photons, linearity, and tiles that nobody can see in the result."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest
from scipy.special import erf

from dps_jax.metrics.scores import at_promised_resolution, psnr_at_promised_resolution
from dps_jax.operators.sampling import resample
from dps_jax.pipelines import photometry
from dps_jax.pipelines import plane as module
from dps_jax.pipelines.restore import restore
from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire
from dps_jax.weights import Network

# Sides that are no multiples of anything, pixels finer than, equal to and coarser than the canonical 75 nm.
# At 75.02 and 74.1 nm the canonical grid ends in a sliver: 64.02 and 97.8 px rounded up.
CASES = [
    ((97, 131), 65.0),
    ((120, 64), 75.0),
    ((33, 127), 75.0),
    ((180, 151), 37.5),
    ((64, 64), 75.02),
    ((99, 64), 74.1),
    ((60, 16), 150.0),
    ((100, 89), 90.0),
    ((16, 140), 20.0),
]


@pytest.mark.parametrize(("shape", "pixel_size_nm"), CASES)
def test_tiled_equals_whole(untrained_with_physics, make_system, noisy, shape, pixel_size_nm):
    image, system = noisy(*shape), make_system(pixel_size_nm)
    tiled, whole = (restore(image, system, untrained_with_physics, tile_px=px) for px in (64, 2048))
    assert whole.report.tiles == 1
    assert (tiled.report.tiles > 1) == (max(shape) * pixel_size_nm / 75 > 64)
    span = whole.image.max() - whole.image.min()
    assert span > 0
    # Float32 sums in another order; the issue allows 1e-4.
    assert np.abs(tiled.image - whole.image).max() < 1e-4 * span
    assert tiled.report.reblur_correlation == pytest.approx(whole.report.reblur_correlation, abs=1e-4)


def test_tiled_equals_whole_with_the_released_network(released, make_system, noisy):
    image, system = noisy(90, 70), make_system(65.0)
    tiled, whole = (restore(image, system, released, tile_px=px) for px in (64, 2048))
    assert (tiled.report.tiles, whole.report.tiles) == (2, 1)
    assert np.abs(tiled.image - whole.image).max() < 1e-4 * np.ptp(whole.image)


@pytest.mark.parametrize("output_pixel_size_nm", [20.0, 65.0, 300.0])
def test_tiled_equals_whole_on_other_output_grids(untrained, make_system, noisy, output_pixel_size_nm):
    image, system = noisy(90, 120), make_system(65.0)
    options = {"output_pixel_size_nm": output_pixel_size_nm}
    tiled, whole = (restore(image, system, untrained, tile_px=px, **options) for px in (64, 2048))
    assert tiled.image.shape == tuple(round(n * 65.0 / output_pixel_size_nm) for n in (90, 120))
    assert tiled.pixel_size_nm == pytest.approx(output_pixel_size_nm)
    assert np.abs(tiled.image - whole.image).max() < 1e-4 * np.ptp(whole.image)
    # The area covered is the input's to half an output pixel.
    for n_out, n_in in zip(tiled.image.shape, image.shape, strict=True):
        assert abs(n_out * output_pixel_size_nm - n_in * 65.0) <= output_pixel_size_nm / 2


@pytest.mark.parametrize("shape", [(16, 16), (16, 17), (19, 40), (61, 16)])
@pytest.mark.parametrize("pixel_size_nm", [30.0, 65.0, 110.0])
def test_any_size_from_16_px_gives_exactly_twice_the_grid(
    untrained, make_system, noisy, shape, pixel_size_nm
):
    result = restore(noisy(*shape), make_system(pixel_size_nm), untrained)
    assert result.image.shape == (2 * shape[0], 2 * shape[1])
    assert result.image.dtype == np.float32
    assert result.pixel_size_nm == pytest.approx(pixel_size_nm / 2)
    assert np.isfinite(result.image).all()
    assert result.image.min() >= 0


def point_source(shape, centre_px, sigma_px):
    """A Gaussian spot integrated over each pixel, without noise."""
    edges = [np.arange(n + 1) for n in shape]
    profiles = [
        np.diff(0.5 * (1 + erf((e - c) / (sigma_px * np.sqrt(2)))))
        for e, c in zip(edges, centre_px, strict=True)
    ]
    return 1e4 * np.outer(*profiles)


def centroid_nm(image, pixel_size_nm, near_nm, radius_nm):
    """Centre of mass of what lies above the surroundings, within a radius of where the spot should be."""
    y, x = ((np.arange(n) + 0.5) * pixel_size_nm for n in image.shape)  # corners, not centres, are the origin
    distance = np.hypot(y[:, None] - near_nm[0], x[None, :] - near_nm[1])
    mass = np.where(distance < radius_nm, image, 0.0).astype(np.float64)
    return np.array([(mass.sum(1) * y).sum(), (mass.sum(0) * x).sum()]) / mass.sum()


@dataclass(frozen=True)
class _Repeat:
    """Stands in for a network: each pixel becomes four, and nothing else happens."""

    scale: int = 2
    grid_multiple: int = 4
    reach: int = 8

    def apply(self, variables, image):
        return jax.numpy.repeat(jax.numpy.repeat(image, 2, axis=1), 2, axis=2) / 4


# Without a network in it, only the geometry is left: at a ratio of the grids such as 1.15, Lanczos weights do not
# count all fine pixels quite alike, measured 0.03 px; a grid laid half a pixel wrong would be 0.25. A trained
# network places a point better or worse depending on where in a pixel it lies: the issue allows a tenth.
@pytest.mark.parametrize(("network", "tolerance_px"), [("geometry", 0.05), ("released", 0.1)])
@pytest.mark.parametrize("pixel_size_nm", [50.0, 65.0, 75.0, 90.0])
@pytest.mark.parametrize("centre_px", [(25.0, 26.0), (22.3, 27.7), (16.0, 33.5)])
def test_a_point_stays_where_it_is(released, make_system, network, tolerance_px, pixel_size_nm, centre_px):
    # 0.21 wavelength / NA: the Gaussian that is nearest to an Airy pattern (Zhang, Zerubia, Olivo-Marin 2007).
    image = point_source((50, 52), centre_px, 0.21 * 525 / 1.4 / pixel_size_nm)
    chosen = released if network == "released" else Network(_Repeat(), {}, 2.5, {})
    result = restore(image, make_system(pixel_size_nm), chosen, background=0.0)
    near = np.array(centre_px) * pixel_size_nm
    radius = 2 * 187.5
    before, after = (
        centroid_nm(i, nm, near, radius)
        for i, nm in ((image, pixel_size_nm), (result.image, result.pixel_size_nm))
    )
    assert np.abs(before - near).max() < 0.01 * pixel_size_nm
    assert np.abs(after - before).max() < tolerance_px * pixel_size_nm


@pytest.fixture(scope="module")
def baseline(made, released):
    return restore(made.image, DEMO_SYSTEM, released)


def test_photons_out_equal_photons_in(released):
    for seed, photons in ((0, 30.0), (1, 100.0), (2, 1000.0)):
        made = acquire(seed, DEMO_SYSTEM, shape=(64, 64), photons=photons, background=3.0)
        result = restore(made.image, DEMO_SYSTEM, released)
        report = result.report
        # float32 pixels, summed in float64.
        assert report.photons_out_over_in == pytest.approx(1, abs=1e-5)
        light = (made.image.astype(np.float64) - report.background).sum()
        assert result.image.sum(dtype=np.float64) == pytest.approx(light, rel=1e-5)
        # The network itself keeps the light; the correction is a touch and not a rescue (its limits: 0.5 and 2).
        assert 0.7 < report.flux_correction < 1.4


@pytest.mark.parametrize("gain", [0.01, 0.37, 9.0, 100.0])
def test_linear_in_the_gain_of_the_camera(made, released, baseline, gain):
    result = restore(np.float32(gain) * made.image, DEMO_SYSTEM, released)
    assert np.abs(result.image - gain * baseline.image).max() < 1e-3 * gain * baseline.image.max()
    assert result.report.background == pytest.approx(gain * baseline.report.background, rel=1e-4)
    assert result.report.brightness == pytest.approx(gain * baseline.report.brightness, rel=1e-4)


@pytest.mark.parametrize("finer", [2, 3])
def test_finer_pixels_change_nothing_but_the_pixels(released, make_system, finer):
    # One scene without noise, on the canonical pixel and on smaller ones: what the network sees is the same, and so is
    # what it answers; the rest is interpolation, good to half a percent at the promised resolution.
    fine_system = make_system(75.0 / finer)
    fine = acquire(12, fine_system, shape=(48 * finer, 48 * finer), photons=1e7, background=0.0).image
    coarse = fine.reshape(48, finer, 48, finer).sum((1, 3))
    seen = [
        at_promised_resolution(
            restore(image, system, released, background=0.0, output_pixel_size_nm=37.5).image, abbe_px=5.0
        )[16:-16, 16:-16]
        for image, system in ((coarse, make_system(75.0)), (fine, fine_system))
    ]
    assert np.linalg.norm(seen[1] - seen[0]) < 0.005 * np.linalg.norm(seen[0])


@pytest.mark.parametrize("offset", [-50.0, 100.0, 1000.0])
def test_an_offset_moves_only_the_background(made, released, baseline, offset):
    result = restore(made.image + np.float32(offset), DEMO_SYSTEM, released)
    assert np.abs(result.image - baseline.image).max() < 1e-3 * baseline.image.max()
    assert result.report.background == pytest.approx(baseline.report.background + offset, abs=1e-2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
def test_the_type_of_the_numbers_does_not_matter(made, released, baseline, dtype):
    result = restore(made.image.astype(dtype), DEMO_SYSTEM, released)
    assert np.abs(result.image - baseline.image).max() < 1e-5 * baseline.image.max()


def test_the_input_is_left_as_it_was(made, untrained):
    image = made.image.copy()
    image.flags.writeable = False
    restore(image, DEMO_SYSTEM, untrained, background_radius_nm=2000.0)
    assert np.array_equal(image, made.image)


def test_frames_equal_images_where_the_scale_is_shared(untrained_with_physics, noisy, monkeypatch):
    # A stack shares the background level and the brightness; given both, a frame knows nothing of the others.
    monkeypatch.setattr(photometry, "brightness", lambda image, *, abbe_px: 80.0)
    stack = np.stack([noisy(40, 50), 0.3 * noisy(40, 50), noisy(40, 50)[::-1]])
    together = restore(stack, DEMO_SYSTEM, untrained_with_physics, background=5.0)
    assert together.image.shape == (3, 80, 100)
    for frame, result in zip(stack, together.image, strict=True):
        alone = restore(frame, DEMO_SYSTEM, untrained_with_physics, background=5.0)
        assert np.array_equal(result, alone.image)


def test_a_stack_shares_one_background_and_one_scale(made, released):
    stack = np.stack([made.image, 0.5 * made.image, made.repeat])
    result = restore(stack, DEMO_SYSTEM, released)
    report, abbe_px = result.report, float(DEMO_SYSTEM.abbe_px)
    assert report.background == pytest.approx(photometry.background_level(stack, abbe_px=abbe_px))
    expected = photometry.brightness(stack - np.float32(report.background), abbe_px=abbe_px)
    assert report.brightness == pytest.approx(expected, rel=1e-5)
    light = (stack.astype(np.float64) - report.background).sum((1, 2))
    # Frames compare: each holds its own photons.
    assert result.image.sum((1, 2), dtype=np.float64) == pytest.approx(light, rel=1e-5)
    assert report.tiles == 3


def largest_factor(number):
    factor = 2
    while factor < number:
        number, factor = (number // factor, factor) if number % factor == 0 else (number, factor + 1)
    return factor


def test_the_network_never_sees_more_than_a_tile(untrained, noisy, make_system, monkeypatch):
    seen, apply = [], module.apply_network

    def watched(network, params, tile, abbe_px, orientations):
        seen.append(tile.shape)
        return apply(network, params, tile, abbe_px, orientations)

    monkeypatch.setattr(module, "apply_network", watched)
    for shape, count in (((128, 128), 4), ((300, 200), 20)):
        seen.clear()
        result = restore(noisy(*shape), make_system(75.0), untrained, tile_px=64)
        # One shape, whatever the size of the image, whose FFT, with the network's border, is a fast one.
        ((side, other),) = set(seen)
        assert side == other
        assert largest_factor(2 * side + 32) <= 5
        assert side <= 64 + 4 * untrained.module.reach
        assert len(seen) == result.report.tiles >= count


@pytest.mark.parametrize("count", [2, 4, 8])
def test_the_mean_over_orientations_turns_with_the_image(untrained_with_physics, make_system, noisy, count):
    # The network prefers a direction; the mean over a group of turns does not. 1: none; 2: half turns; 4: and the
    # diagonal; 8: all of the square's.
    image, system = noisy(48, 48), make_system(75.0)

    def run(picture):
        return restore(picture, system, untrained_with_physics, background=0.0, orientations=count).image

    plain = run(image)
    turns = {2: [lambda i: i[::-1, ::-1]], 4: [lambda i: i[::-1, ::-1], np.transpose]}
    turns[8] = [*turns[4], np.rot90, lambda i: i[::-1]]
    for turn in turns[count]:
        np.testing.assert_allclose(
            turn(run(turn(image))) if count < 8 else run(turn(image)),
            plain if count < 8 else turn(plain),
            atol=1e-4 * plain.max(),
        )


def test_one_orientation_prefers_a_direction(untrained_with_physics, make_system, noisy):
    # Or the test above could not fail.
    image, system = noisy(48, 48), make_system(75.0)
    a, b = (
        restore(i, system, untrained_with_physics, background=0.0).image for i in (image, image[::-1, ::-1])
    )
    assert np.abs(a - b[::-1, ::-1]).max() > 1e-2 * a.max()


def test_progress_is_told_up_to_the_total(untrained, noisy, make_system):
    told = []
    stack = np.stack([noisy(100, 70), noisy(100, 70)])
    result = restore(stack, make_system(75.0), untrained, tile_px=64, progress=lambda *a: told.append(a))
    assert result.report.tiles == 8
    assert told == [(i, 8) for i in range(1, 9)]


def test_an_uneven_background_is_taken_off(untrained):
    spots = sum(point_source((64, 64), c, 1.2) for c in ((20.0, 20.0), (40.5, 30.2), (33.0, 50.0)))
    ramp = np.linspace(10, 70, 64)[None, :] + np.zeros((64, 1))
    plain, rolled = (
        restore(spots + ramp, DEMO_SYSTEM, untrained, background_radius_nm=radius)
        for radius in (None, 1500.0)
    )
    # The ramp has a mean of 40 over a darkest level of 10: a constant leaves 30 in, a rolling ball all but the
    # wedges at its border and the feet of the spots.
    assert plain.report.background == pytest.approx(10, abs=3)
    assert rolled.report.background == pytest.approx(40, abs=3)


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_an_image_without_light_gives_an_image_without_light(untrained, value):
    result = restore(np.full((32, 40), value), DEMO_SYSTEM, untrained)
    assert result.image.shape == (64, 80)
    assert not result.image.any()
    report = result.report
    assert (report.background, report.brightness, report.photons_out_over_in) == (
        pytest.approx(value),
        0.0,
        1.0,
    )
    assert report.reblur_correlation == 0.0


def test_the_report_says_what_was_done(made, baseline):
    report = baseline.report
    assert report.abbe_nm == pytest.approx(187.5)
    assert report.abbe_px == pytest.approx(187.5 / 65)
    assert report.canonical_factor == pytest.approx(65 / 75)
    assert report.background == pytest.approx(made.background, abs=2)
    assert report.notes == ()
    # 100 photons at the peak: the noise alone keeps the correlation below 1.
    assert 0.9 < report.reblur_correlation < 1
    assert report.as_dict()["tiles"] == report.tiles == 1


def test_the_released_network_beats_bicubic_interpolation(released):
    gains = []
    for seed in range(4):
        made = acquire(seed, DEMO_SYSTEM, shape=(64, 64), photons=100.0, background=2.0)
        ours = restore(made.image, DEMO_SYSTEM, released, background=made.background).image
        cubic = resample(jax.numpy.asarray(made.image - made.background), 2.0, kernel="cubic")
        a, b = (
            float(psnr_at_promised_resolution(jax.numpy.asarray(i), made.truth, abbe_px=2 * 187.5 / 65))
            for i in (ours, cubic)
        )
        gains.append(a - b)
    # 1 dB is a fifth less error; a network that only denoised or only smoothed would not get there.
    assert np.mean(gains) > 1.0
    assert min(gains) > 0
