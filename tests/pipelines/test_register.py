"""Motion correction on two-photon movies of known motion, still ones, and real ones."""

import functools

import numpy as np
import pytest

from dps_jax.io import read_image
from dps_jax.metrics import crispness, endpoint_error, folding_fraction, template_correlation
from dps_jax.pipelines.register import METHODS, RegisterSettings, find_motion
from dps_jax.pipelines.register_batch import correct_batch
from dps_jax.pipelines.register_report import Tally
from dps_jax.pipelines.register_template import (
    agreement,
    batch_size,
    build_template,
    filled_up,
    one_colour,
    refine_template,
)
from dps_jax.synthetic import deformations, two_photon

SETTINGS = RegisterSettings()
SIDE, MARGIN, FRAMES = 88, 16, 12
INNER = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))


@functools.cache
def scene(seed, kind):
    """Return clean frames, their true flows, the frames at rest, and traces and masks of the cells."""
    rng = np.random.default_rng(seed)
    side = SIDE + 2 * MARGIN
    rest, traces, masks = two_photon.movie(rng, (side, side), frames=FRAMES, spikes_hz=1.0)
    flows = rng.normal(0, 2, (FRAMES, 2, 1, 1)) * np.ones((1, 1, SIDE, SIDE))
    if kind == "deformed":
        flows += np.stack([deformations.bump_flow(rng, (SIDE, SIDE)) for _ in range(FRAMES)])
    if kind == "still":
        return rest[INNER], 0 * flows, rest[INNER], traces, masks[INNER]
    # What moves in lies beyond the frame; there the motion goes on as at its edge.
    wide = np.pad(flows, [(0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)], mode="edge")
    clean = deformations.displaced(rest, deformations.invert_flow(wide, iterations=12))
    return clean[INNER], flows, rest[INNER], traces, masks[INNER]


@functools.cache
def counts(seed, kind, photons):
    return two_photon.count_photons(np.random.default_rng(seed), scene(seed, kind)[0], photons=photons)


@functools.cache
def rigid_template(seed, kind, photons):
    return build_template(counts(seed, kind, photons), settings=SETTINGS)


def registered(seed, kind, photons, *, method):
    """Return template, corrected frames and flows, as the command makes them."""
    frames, template = counts(seed, kind, photons), rigid_template(seed, kind, photons)
    if method == "patches":
        template = refine_template(frames, template, settings=SETTINGS)
    return template, *corrected(frames, template.image, method=method)


def corrected(frames, template, *, method):
    """Correct frames in batches of the size that the template was made with: one program serves all."""
    batches = [b for _, b in batched(frames, template, method=method)]
    moved, flow = (np.concatenate([np.asarray(getattr(b, k)) for b in batches]) for k in ("frames", "flow"))
    return moved[: len(frames), 0], flow[: len(frames)]


def batched(frames, template, *, method):
    size = batch_size(frames.shape[1:])
    for start in range(0, len(frames), size):
        part = frames[start : start + size, None].astype(np.float32)
        yield (
            start,
            correct_batch(
                filled_up(part, size),
                np.asarray(template, np.float32),
                method=method,
                settings=SETTINGS,
                count=len(part),
                with_flow=True,
            ),
        )


def about_its_mean(flow):
    """Where the template lies is free: what counts is how frames lie relative to each other."""
    return flow - flow.mean(0)


@pytest.mark.parametrize(("photons", "bar_px"), [(100, 0.05), (5, 0.2)])
def test_rigid_shifts_are_found(photons, bar_px):
    flows = scene(1, "shifted")[1]
    error = about_its_mean(registered(1, "shifted", photons, method="rigid")[2] - flows)
    distance = np.hypot(*error[:, :, 0, 0].T)
    # The bars of the field's requirement; no single frame is far off either.
    assert distance.mean() < bar_px
    assert distance.max() < 2 * bar_px


@pytest.mark.parametrize(("photons", "bar_px"), [(100, 0.20), (8, 0.38)])
def test_deformations_are_followed(photons, bar_px):
    frames, template = counts(2, "deformed", photons), rigid_template(2, "deformed", photons)
    assert agreement(frames, template, settings=SETTINGS).patches_help
    truth = about_its_mean(scene(2, "deformed")[1])
    edge = np.ones((SIDE, SIDE), bool)
    edge[SIDE // 10 : -(SIDE // 10), SIDE // 10 : -(SIDE // 10)] = False
    errors, at_edge = {}, {}
    for method in METHODS:
        flow = registered(2, "deformed", photons, method=method)[2]
        errors[method] = endpoint_error(about_its_mean(flow), truth).mean()
        at_edge[method] = endpoint_error(about_its_mean(flow), truth, mask=edge).mean()
        assert not folding_fraction(flow).any()
    before = endpoint_error(np.zeros_like(truth), truth).mean()
    assert errors["patches"] < min(bar_px, 0.7 * errors["rigid"], 0.15 * before)
    # Patches at the edge have neighbours on one side only, and part of what they saw has moved out.
    assert at_edge["patches"] < min(bar_px, 0.7 * at_edge["rigid"])


@pytest.mark.parametrize(("photons", "bar_px"), [(30, 0.08), (8, 0.15)])
def test_a_still_movie_stays_still(photons, bar_px):
    frames, template = counts(3, "still", photons), rigid_template(3, "still", photons)
    assert not agreement(frames, template, settings=SETTINGS).patches_help
    for method in METHODS:
        flow = registered(3, "still", photons, method=method)[2]
        assert endpoint_error(flow, 0 * flow).mean() < bar_px
        assert np.hypot(*flow.mean((0, 2, 3))) < 0.05


@pytest.mark.parametrize("method", METHODS)
def test_activity_is_kept(method):
    _, flows, rest, traces, masks = scene(4, "shifted")
    # Noise would hide what registration does to a trace: photons enough for a percent.
    _, moved, flow = registered(4, "shifted", 1000, method=method)
    # Cells wholly in the frame, whatever it moved by, that fire.
    inside = masks[:, 8:-8, 8:-8].sum((1, 2)) > 0.999 * masks.sum((1, 2))
    chosen = np.flatnonzero(inside & (traces.std(1) > 0.1) & (masks.sum((1, 2)) > 20))
    assert len(chosen) >= 3
    offset = np.round(np.mean(flow - flows, (0, 2, 3))).astype(int)
    for cell in chosen:
        mask = np.roll(masks[cell] > 0.5, -offset, (0, 1))
        found, truth = moved[:, mask].mean(1), rest[:, masks[cell] > 0.5].mean(1)
        assert np.corrcoef(found, truth)[0, 1] > 0.98
        # It is not moved by its light: at its place the flow errs no more than elsewhere, by the noise of a patch.
        error = (flow - flows)[:, :, mask].mean(2)
        assert np.hypot(*(error - error.mean(0)).T).mean() < 0.1


def test_outliers_do_not_enter_the_template():
    rng = np.random.default_rng(5)
    frames = counts(1, "shifted", 100).copy()
    frames[[3, 9]] = rng.permuted(frames[[3, 9]].reshape(2, -1), axis=1).reshape(2, SIDE, SIDE)
    kept = build_template(frames, settings=SETTINGS).kept
    assert not kept[[3, 9]].any()
    assert kept.sum() >= FRAMES - 4


def test_a_frame_as_reference_keeps_its_place():
    frames, flows = counts(1, "shifted", 100), scene(1, "shifted")[1]
    template = build_template(frames, settings=SETTINGS, first=frames[5])
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
    for method in METHODS:
        flow = corrected(pair[1:], clean[inner], method=method)[1]
        assert flow.shape == (1, 2, 256, 256)
        # The bar for rigid shifts; patches at the edge lack what moved out.
        np.testing.assert_allclose(
            flow.mean((0, 2, 3)), shift, rtol=0, atol=0.05 if method == "rigid" else 0.1
        )


def test_the_two_colours_of_a_checkerboard_share_no_pixel():
    image = np.zeros((3, 8, 8))
    image[:, 3, 4] = 1  # an odd place
    even, odd = (np.asarray(one_colour(image, colour=colour)) for colour in (0, 1))
    assert odd[0, 3, 4] == 1
    assert even[0].sum() == 0
    assert odd[0].sum() == pytest.approx(2)  # a quarter at each of four neighbours


def test_the_drift_of_a_real_movie(data_folder):
    frames = read_image(data_folder / "calcium" / "twophoton_20f.tif").data.astype(np.float32)
    means, correlation = {}, {}
    rigid = build_template(frames, settings=SETTINGS)
    for method in METHODS:
        template = rigid if method == "rigid" else refine_template(frames, rigid, settings=SETTINGS)
        tally = Tally((len(frames), 1, *frames.shape[1:]), template.image)
        moved = corrected(frames, template.image, method=method)[0]
        for start, batch in batched(frames, template.image, method=method):
            tally.add(start, batch.measures, min(batch_size(frames.shape[1:]), len(frames) - start))
        for index, parts in enumerate(zip(frames, moved, strict=True)):
            tally.keep(index, *parts)
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
    template = rng.random((SIDE, SIDE)).astype(np.float32)
    frames = np.stack([np.roll(template, 1, 0), 2 * template, np.full_like(template, np.nan), template])
    tally = Tally((4, 1, SIDE, SIDE), template)
    ((start, batch),) = batched(frames, template, method="rigid")
    tally.add(start, batch.measures, 4)
    tally.keep(1, frames[1], np.asarray(batch.frames)[1, 0])
    report = tally.report()
    assert report["frames_left_as_they_are"] == [3]
    assert not np.asarray(batch.frames)[2].any()
    np.testing.assert_allclose(report["shift_px"], [[1, 0], [0, 0], [0, 0], [0, 0]], rtol=0, atol=0.02)
    expected = [np.corrcoef(f.ravel(), template.ravel())[0, 1] for f in frames]
    np.testing.assert_allclose(np.delete(report["correlation_before"], 2), np.delete(expected, 2), atol=2e-5)
    assert report["after"]["correlation"] == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(tally.means[0], np.nansum(frames, 0) / 3, rtol=1e-5)
    assert crispness(template) > report["after"]["crispness"]  # it is of the smoothed mean


@pytest.mark.parametrize("kind", ["uint8", "int16", "float32", "float64"])
def test_a_batch_comes_back_in_its_type(kind):
    frames = np.minimum(counts(1, "shifted", 30), 120)
    size = batch_size(frames.shape[1:])
    part = frames[:size, None].astype(kind)
    template = rigid_template(1, "shifted", 30).image
    done = correct_batch(part, template, method="rigid", settings=SETTINGS, count=size, dtype=np.dtype(kind))
    exact = np.asarray(next(batched(frames, template, method="rigid"))[1].frames)
    assert done.frames.dtype == (kind if kind in ("uint8", "int16") else "float32")
    assert done.flow is None
    whole = np.rint(exact) if kind in ("uint8", "int16") else exact
    np.testing.assert_allclose(np.asarray(done.frames, float), whole, rtol=0, atol=1e-3)


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
        find_motion(np.zeros((1, 8, 8)), np.zeros((8, 8)), method="flow", settings=SETTINGS)
