"""Motion correction on two-photon movies of known motion, still ones, and real ones."""

import functools

import numpy as np
import pytest

from dps_jax.io import read_image
from dps_jax.metrics import crispness, endpoint_error, template_correlation
from dps_jax.pipelines import register
from dps_jax.pipelines.register import RegisterSettings
from dps_jax.pipelines.register_report import Tally
from dps_jax.synthetic import deformations, two_photon

SETTINGS = RegisterSettings()
SIDE, MARGIN, FRAMES = 96, 20, 16
INNER = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))


@functools.cache
def scene(seed, kind):
    """Return clean frames, their true flows, and traces and masks of the cells."""
    rng = np.random.default_rng(seed)
    side = SIDE + 2 * MARGIN
    clean, traces, masks = two_photon.movie(rng, (side, side), frames=FRAMES, spikes_hz=1.0)
    flows = rng.normal(0, 2, (FRAMES, 2, 1, 1)) * np.ones((1, 1, SIDE, SIDE))
    if kind == "deformed":
        flows += np.stack([deformations.bump_flow(rng, (SIDE, SIDE)) for _ in range(FRAMES)])
    if kind == "still":
        flows *= 0
    else:
        # What moves in lies beyond the frame; there the motion goes on as at its edge.
        wide = np.pad(flows, [(0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)], mode="edge")
        clean = deformations.displaced(clean, deformations.invert_flow(wide))
    return clean[INNER], flows, traces, masks[INNER]


def registered(frames, *, method, settings=SETTINGS):
    """Return template, corrected frames and flows, as the command makes them."""
    template = register.build_template(frames, settings=settings)
    if method == "patches":
        template = register.refine_template(frames, template, settings=settings)
    moved, flow = corrected(frames, template.image, method=method, settings=settings)
    return template, moved, flow


def corrected(frames, template, *, method, settings=SETTINGS):
    """Correct frames in batches of the size that the template was made with: one program serves both."""
    parts = []
    for start in range(0, len(frames), register.BATCH):
        batch = register.filled_up(frames[start : start + register.BATCH], register.BATCH)[:, None]
        parts.append(register.register_frames(batch, template, method=method, settings=settings))
    moved, flow = (np.concatenate(list(map(np.asarray, p)))[: len(frames)] for p in zip(*parts, strict=True))
    return moved[:, 0], flow


def about_its_mean(flow):
    """Where the template lies is free: what counts is how frames lie relative to each other."""
    return flow - flow.mean(0)


def test_rigid_shifts_are_found_to_a_twentieth_of_a_pixel():
    clean, flows, _, _ = scene(1, "shifted")
    frames = two_photon.count_photons(np.random.default_rng(1), clean, photons=100)
    error = about_its_mean(registered(frames, method="rigid")[2] - flows)
    # The bar of the field's requirement at 100 photons.
    assert np.hypot(*error[:, :, 0, 0].T).mean() < 0.05


@pytest.mark.parametrize(("photons", "bar_px"), [(100, 0.20), (8, 0.38)])
def test_deformations_are_followed(photons, bar_px):
    clean, flows, _, _ = scene(2, "deformed")
    frames = two_photon.count_photons(np.random.default_rng(2), clean, photons=photons)
    template = register.build_template(frames, settings=SETTINGS)
    assert register.agreement(frames, template, settings=SETTINGS).patches_help
    truth = about_its_mean(flows)
    errors = {
        m: endpoint_error(about_its_mean(registered(frames, method=m)[2]), truth).mean()
        for m in register.METHODS
    }
    before = endpoint_error(np.zeros_like(truth), truth).mean()
    assert errors["patches"] < min(bar_px, 0.7 * errors["rigid"], 0.15 * before)


@pytest.mark.parametrize(("photons", "bar_px"), [(30, 0.08), (8, 0.15)])
def test_a_still_movie_stays_still(photons, bar_px):
    clean, flows, _, _ = scene(3, "still")
    frames = two_photon.count_photons(np.random.default_rng(3), clean, photons=photons)
    template = register.build_template(frames, settings=SETTINGS)
    assert not register.agreement(frames, template, settings=SETTINGS).patches_help
    for method in register.METHODS:
        flow = registered(frames, method=method)[2]
        assert endpoint_error(flow, flows).mean() < bar_px
        assert np.hypot(*flow.mean((0, 2, 3))) < 0.05


@pytest.mark.parametrize("method", register.METHODS)
def test_activity_is_kept(method):
    clean, flows, traces, masks = scene(4, "shifted")
    # Noise would hide what registration does to a trace: photons enough for a percent.
    frames = two_photon.count_photons(np.random.default_rng(4), clean, photons=1000)
    _, moved, flow = registered(frames, method=method)
    # Cells wholly in the frame, whatever it moved by, that fire.
    inside = masks[:, 8:-8, 8:-8].sum((1, 2)) > 0.999 * masks.sum((1, 2))
    chosen = np.flatnonzero(inside & (traces.std(1) > 0.1) & (masks.sum((1, 2)) > 20))
    assert len(chosen) >= 3
    still = scene_at_rest(4)
    offset = np.round(np.mean(flow - flows, (0, 2, 3))).astype(int)
    for cell in chosen:
        mask = np.roll(masks[cell] > 0.5, -offset, (0, 1))
        found, truth = moved[:, mask].mean(1), still[:, masks[cell] > 0.5].mean(1)
        assert np.corrcoef(found, truth)[0, 1] > 0.98
        # It is not moved by its light: at its place the flow errs no more than elsewhere, by the noise of a patch.
        error = (flow - flows)[:, :, mask].mean(2)
        assert np.hypot(*(error - error.mean(0)).T).mean() < 0.1


@functools.cache
def scene_at_rest(seed):
    rng = np.random.default_rng(seed)
    side = SIDE + 2 * MARGIN
    return two_photon.movie(rng, (side, side), frames=FRAMES, spikes_hz=1.0)[0][INNER]


def test_outliers_do_not_enter_the_template():
    clean, _, _, _ = scene(1, "shifted")
    rng = np.random.default_rng(5)
    frames = two_photon.count_photons(rng, clean, photons=30)
    frames[[3, 9]] = rng.permuted(frames[[3, 9]].reshape(2, -1), axis=1).reshape(2, SIDE, SIDE)
    kept = register.build_template(frames, settings=SETTINGS).kept
    assert not kept[[3, 9]].any()
    assert kept.sum() >= FRAMES - 4


def test_a_frame_as_reference_keeps_its_place():
    clean, flows, _, _ = scene(1, "shifted")
    frames = two_photon.count_photons(np.random.default_rng(6), clean, photons=100)
    template = register.build_template(frames, settings=SETTINGS, first=frames[5])
    found = corrected(frames, template.image, method="rigid")[1]
    # The frame itself is 0; its own noise in the first template is worth some hundredths.
    np.testing.assert_allclose(found - (flows - flows[5]), 0 * flows, rtol=0, atol=0.15)


def test_large_frames_are_halved_to_look_for_motion():
    rng = np.random.default_rng(7)
    clean = two_photon.movie(rng, (296, 296), frames=2)[0][0]
    shift = np.array([3.3, -1.8])
    moved = deformations.displaced(clean, np.broadcast_to(-shift[:, None, None], (2, 296, 296)))
    inner = (slice(20, -20), slice(20, -20))
    pair = two_photon.count_photons(rng, np.stack([clean[inner], moved[inner]]), photons=100)
    for method in register.METHODS:
        flow = corrected(pair[1:], clean[inner], method=method)[1]
        assert flow.shape == (1, 2, 256, 256)
        # The bar for rigid shifts; patches at the edge lack what moved out.
        np.testing.assert_allclose(
            flow.mean((0, 2, 3)), shift, rtol=0, atol=0.05 if method == "rigid" else 0.1
        )


def test_the_two_colours_of_a_checkerboard_share_no_pixel():
    image = np.zeros((3, 8, 8))
    image[:, 3, 4] = 1  # an odd place
    even, odd = (register._one_colour(image, colour) for colour in (0, 1))
    assert odd[0, 3, 4] == 1
    assert even[0].sum() == 0
    assert odd[0].sum() == pytest.approx(2)  # a quarter at each of four neighbours


def test_the_drift_of_a_real_movie(data_folder):
    frames = read_image(data_folder / "calcium" / "twophoton_20f.tif").data.astype(np.float32)
    means, correlation = {}, {}
    for method in register.METHODS:
        template, moved, flow = registered(frames, method=method)
        tally = Tally((len(frames), 1, *frames.shape[1:]), template.image)
        for index, parts in enumerate(zip(frames, moved, flow, strict=True)):
            tally.add(index, *parts)
        means[method] = report = tally.report()
        assert report["after"]["correlation"] > 1.3 * report["before"]["correlation"]
        assert report["after"]["crispness"] > report["before"]["crispness"]
        assert report["after"]["residual_motion_px"] < 0.7 * report["before"]["residual_motion_px"]
        assert report["after"]["folding_fraction"] == 0
        # The drift that is known of this movie, +7 to -2 px in x, within a pixel.
        shift = np.array(report["shift_px"])
        assert shift[0, 1] - shift[-5:, 1].mean() == pytest.approx(8.5, abs=1.0)
        assert np.abs(shift[:, 0]).max() < 2.5
        correlation[method] = template_correlation(moved, template.image).mean()
    assert means["patches"]["after"]["crispness"] > means["rigid"]["after"]["crispness"]
    assert correlation["patches"] > correlation["rigid"]


def test_the_report_counts_what_it_says(rng):
    template = rng.random((32, 32))
    tally = Tally((3, 1, 32, 32), template)
    flow = np.zeros((2, 32, 32))
    flow[0] = 1.5
    tally.add(0, template, template, flow)
    tally.add(1, 2 * template, template, 0 * flow)
    tally.add(2, np.full((32, 32), np.nan), template, 0 * flow)
    report = tally.report()
    assert report["frames_left_as_they_are"] == [3]
    assert report["shift_px"] == [[1.5, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert report["after"]["correlation"] == pytest.approx(1)
    np.testing.assert_allclose(tally.means[0], 1.5 * template)
    assert report["before"]["crispness"] == pytest.approx(1.5 * report["after"]["crispness"])
    assert crispness(template) > report["after"]["crispness"]  # it is of the smoothed mean


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"largest_shift_px": 0.0}, "expected largest_shift_px"),
        ({"patch_px": 0}, "expected patch_px"),
        ({"order": 2}, "expected order to be one of 1, 3"),
        ({"rounds": 0}, "expected rounds"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        RegisterSettings(**wrong)
    with pytest.raises(ValueError, match="expected method to be one of"):
        register.find_flow(np.zeros((1, 8, 8)), np.zeros((8, 8)), method="flow", settings=SETTINGS)
