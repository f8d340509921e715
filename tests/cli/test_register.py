"""``dps-jax register`` as a user meets it: types, axes and places kept, the report, and one sentence for a mistake."""

import json
import signal
import time
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

from dps_jax.io import read_description, read_image
from dps_jax.io.frames import frame_writer
from dps_jax.models.registry import build
from dps_jax.operators import warp
from dps_jax.pipelines import register_file
from dps_jax.pipelines.flow_network import FlowNetwork
from dps_jax.pipelines.flow_refine import Refinement
from dps_jax.synthetic import deformations, two_photon
from dps_jax.weights import save_network

SIDE, FRAMES = 64, 12
RIGID = ("--method", "rigid")


@pytest.fixture(scope="module")
def movie():
    """Counts of a scene that moves by whole pixels, so that nothing has to be interpolated; and where to read it."""
    rng = np.random.default_rng(11)
    clean = two_photon.movie(rng, (SIDE + 16, SIDE + 16), frames=FRAMES)[0]
    shifts = rng.integers(-3, 4, (FRAMES, 2))
    frames = [
        f[8 - dy : 8 - dy + SIDE, 8 - dx : 8 - dx + SIDE] for f, (dy, dx) in zip(clean, shifts, strict=True)
    ]
    return two_photon.count_photons(rng, np.stack(frames), photons=100).astype(np.uint16), shifts


def test_a_movie_comes_back_in_place_with_its_report(cli, save, movie, opened):
    frames, shifts = movie
    save("m.tif", frames, axes="TYX", finterval=0.1)
    words = ("--save-flow", "flow.tif", "--json", "q.json", "--figure", "q.png", "--reference", "frame:1")
    done = cli("register", "m.tif", "-o", "out.tif", *RIGID, *words)
    assert (done.code, done.errors) == (0, [])
    pixels, axes, pixel_nm, metadata = opened("out.tif")
    assert (pixels.shape, pixels.dtype, axes) == (frames.shape, np.uint16, "TYX")
    assert metadata["finterval"] == pytest.approx(0.1)
    np.testing.assert_allclose(pixel_nm, 65, rtol=1e-3)
    flow, axes, _, _ = opened("flow.tif")
    assert (flow.shape, flow.dtype, axes) == ((FRAMES, 2, SIDE, SIDE), np.float32, "TCYX")
    with open("q.json") as file:
        report = json.load(file)
    # Small frames, whose borders are an eighth of the side: a tenth of a pixel.
    np.testing.assert_allclose(report["shift_px"], shifts - shifts[0], rtol=0, atol=0.1)
    np.testing.assert_allclose(flow.mean((2, 3)), report["shift_px"], rtol=0, atol=1e-3)
    with tifffile.TiffFile("flow.tif") as file:
        assert file.pages[0].compression.name == "ADOBE_DEFLATE"
        assert file.filehandle.size < flow.nbytes / 5
    about = read_description("flow.tif")
    assert (about["channels"], about["unit"]) == (["dy", "dx"], "px")
    np.testing.assert_array_equal(read_image("flow.tif").data, flow)
    # What the file says is how the frames were read: whole pixels of a frame, away from its border.
    again = [warp(f.astype(np.float32), u) for f, u in zip(frames, flow, strict=True)]
    np.testing.assert_allclose(np.rint(again), pixels, rtol=0, atol=1)
    assert report["after"]["correlation"] > report["before"]["correlation"]
    assert report["after"]["residual_motion_px"] < report["before"]["residual_motion_px"]
    assert read_description("out.tif")["operation"] == "register rigid"
    assert "frames/s" in done.err
    with open("q.png", "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_the_network_follows_what_a_shift_cannot(cli, scratch):
    rng = np.random.default_rng(4)
    clean = two_photon.movie(rng, (SIDE + 32, SIDE + 32), frames=8)[0]
    wide = np.stack([deformations.bump_flow(rng, (SIDE + 32, SIDE + 32), shift_px=6.0) for _ in range(8)])
    moved = deformations.displaced(clean, deformations.invert_flow(wide, iterations=12))[:, 16:-16, 16:-16]
    tifffile.imwrite(scratch / "m.tif", two_photon.count_photons(rng, moved, photons=100).astype(np.uint16))
    residual = {}
    for method in ("rigid", "flow"):
        words = ("--method", method, "--save-flow", f"{method}-flow.tif", "--json", "q.json")
        done = cli("register", "m.tif", "-o", f"{method}.tif", *words)
        assert (done.code, done.errors) == (0, [])
        with open("q.json") as file:
            report = json.load(file)
        assert (report["method"], report["after"]["folding_fraction"]) == (method, 0)
        residual[method] = report["after"]["residual_motion_px"]
        flow, truth = tifffile.imread(scratch / f"{method}-flow.tif"), wide[:, :, 16:-16, 16:-16]
        # Where the template lies is free: what counts is how frames lie relative to each other.
        error = (flow - flow.mean(0)) - (truth - truth.mean(0))
        residual[f"{method} error"] = np.hypot(error[:, 0], error[:, 1]).mean()
    assert residual["flow error"] < 0.5 * residual["rigid error"]
    assert residual["flow"] < residual["rigid"]


@pytest.mark.parametrize("kept", [True, False])
def test_a_network_of_ones_own_is_refined_on_the_movie(cli, movie, scratch, monkeypatch, kept):
    module = build("flow_unet", {"channels": [4, 6], "flow_features": 6, "windows": [4.0], "repeats": 1})
    params = jax.jit(lambda key: module.init(key, jnp.zeros((1, 16, 16, 3)))["params"])(jax.random.key(3))
    save_network(scratch / "own.safetensors", module, params, abbe_px=0.0, header={}, task="flow")
    tifffile.imwrite(scratch / "m.tif", movie[0])
    still = jax.tree.map(jnp.zeros_like, params)

    def refined(network, sample, template, *, iterations, settings, progress):
        # The training itself is tested in tests/pipelines; here, that the command uses what comes of it.
        jax.tree.map(np.testing.assert_array_equal, network.params, params)
        assert sample.shape == movie[0].shape
        progress(iterations, iterations)
        return FlowNetwork(network.module, still), Refinement(
            iterations, 60.0, 0.3, 0.2 if kept else 0.4, kept
        )

    monkeypatch.setattr(register_file, "refined_network", refined)
    words = ("--method", "flow", "--weights", "own.safetensors", "--refine-steps", 3, "--json", "q.json")
    done = cli("register", "m.tif", "-o", "x.tif", *words, "--save-flow", "flow.tif")
    assert (done.code, done.errors) == (0, [])
    assert f"-> {0.2 if kept else 0.4:.3f} px, {'kept' if kept else 'not kept'}; flow" in done.err
    refinement = json.loads((scratch / "q.json").read_text())["refinement"]
    assert (refinement["steps"], refinement["kept"]) == (3, kept)
    # A network without weights finds whole pixels alone; the novice's least squares find more, if not much of truth.
    flow = read_image(scratch / "flow.tif").data
    assert (np.ptp(flow, axis=(2, 3)).max() < 1e-3) == kept


@pytest.mark.parametrize("kind", ["uint8", "int16", "float32"])
def test_types_are_kept(cli, save, movie, scratch, kind):
    save("m.tif", np.minimum(movie[0], 255).astype(np.uint8), axes="TYX")
    tifffile.imwrite(scratch / "m.tif", np.minimum(movie[0], 255).astype(kind))
    assert cli("register", "m.tif", "-o", "out.tif", *RIGID).code == 0
    assert tifffile.imread(scratch / "out.tif").dtype == kind
    if kind == "uint8":
        assert cli("register", "m.tif", "-o", "f.tif", *RIGID, "--dtype", "float32").code == 0
        exact, rounded = (tifffile.imread(scratch / name) for name in ("f.tif", "out.tif"))
        assert exact.dtype == np.float32
        np.testing.assert_array_equal(rounded, np.rint(exact))


@pytest.mark.parametrize("axes", ["TZYX", "TCYX"])
def test_planes_and_channels_move_together(cli, save, movie, scratch, axes):
    frames, _ = movie
    blank = np.full_like(frames, 7)
    planes = np.stack([frames, frames // 2] if axes == "TZYX" else [blank, frames], axis=1)
    save("m.tif", planes, axes=axes)
    more = ("--channel", 2) if "C" in axes else ()
    assert cli("register", "m.tif", "-o", "out.tif", "--reference", "frame:1", *RIGID, *more).code == 0
    with tifffile.TiffFile(scratch / "out.tif") as file:
        assert file.series[0].axes == axes
        made = file.asarray()
    assert made.shape == planes.shape
    main = made[:, 0 if axes == "TZYX" else 1, 8:-8, 8:-8].astype(float)
    # Each frame now correlates with the first as well as noise lets it.
    alike = [np.corrcoef(main[0].ravel(), f.ravel())[0, 1] for f in main[1:]]
    raw = [np.corrcoef(frames[0].ravel(), f.ravel())[0, 1] for f in frames[1:]]
    assert np.mean(alike) > np.mean(raw) + 0.2
    if axes == "TCYX":
        assert (made[:, 0] == 7).all()


def test_frames_with_nan_are_left_and_said(cli, movie, scratch):
    frames = movie[0].astype(np.float32)
    frames[4, 10, 10] = np.nan
    tifffile.imwrite(scratch / "m.tif", frames)
    done = cli("register", "m.tif", "-o", "out.tif", "--json", "q.json", *RIGID)
    assert done.code == 0
    assert any("1 frames with NaN or infinite values were written as they are: 5" in n for n in done.notes)
    made = tifffile.imread(scratch / "out.tif")
    np.testing.assert_array_equal(made[4], frames[4])
    assert np.isfinite(np.delete(made, 4, 0)).all()
    with open("q.json") as file:
        assert json.load(file)["frames_left_as_they_are"] == [5]


def test_one_frame_can_be_brought_onto_a_file(cli, movie, scratch):
    frames, shifts = movie
    tifffile.imwrite(scratch / "one.tif", frames[3])
    tifffile.imwrite(scratch / "to.tif", frames[0])
    alone = cli("register", "one.tif", "-o", "out.tif")
    assert alone.code == 2
    assert "holds one frame" in alone.errors[0]
    words = ("--reference", "to.tif", "--json", "q.json")
    assert cli("register", "one.tif", "-o", "out.tif", *RIGID, *words).code == 0
    with open("q.json") as file:
        np.testing.assert_allclose(json.load(file)["shift_px"], [shifts[3] - shifts[0]], rtol=0, atol=0.15)


def test_memory_does_not_grow_with_the_movie(cli, movie, scratch):
    peaks = []
    tracemalloc.start()
    for count in (128, 1024):  # 1 and 8 MB of 16-bit frames: longer than the sample of 100
        shape = (count, SIDE, SIDE)
        with frame_writer("m.tif", shape=shape, dtype=np.uint16, axes="TYX", description={}) as write:
            for index in range(count):
                write(index, movie[0][index % FRAMES])
        tracemalloc.clear_traces()
        tracemalloc.reset_peak()
        assert cli("register", "m.tif", "-o", "out.tif", *RIGID).code == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()  # once, when no thread reads: see ``peak`` in tests/conftest.py
    # What a longer movie may cost is its list of pages and shifts, 1 kB per frame, not its 8 kB of pixels.
    assert peaks[1] - peaks[0] < 1024 * (1024 - 128)


def test_a_killed_run_leaves_nothing_that_opens(program, movie, scratch):
    tifffile.imwrite(scratch / "m.tif", np.tile(movie[0], (400, 1, 1)))
    words = ("register", "m.tif", "-o", "out.tif", "--save-flow", "flow.tif", *RIGID)
    process = program(*words, cwd=scratch)
    started = time.monotonic()
    # Some way into both: the flow is being written.
    while process.poll() is None and time.monotonic() - started < 120:
        begun = list(scratch.glob(".flow-*.tif"))
        if begun and begun[0].stat().st_size > 50_000:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (scratch / "out.tif").exists()
    assert not (scratch / "flow.tif").exists()
    for pattern in (".out-*.tif", ".flow-*.tif"):
        left = list(scratch.glob(pattern))
        assert len(left) == 1
        with pytest.raises(tifffile.TiffFileError):
            tifffile.TiffFile(left[0])
    # The same command starts again: a hidden file that was left behind is not in its way.
    tifffile.imwrite(scratch / "m.tif", movie[0])
    again = program(*words, cwd=scratch)
    again.communicate(timeout=120)
    assert again.returncode == 0
    assert tifffile.imread(scratch / "flow.tif").shape == (FRAMES, 2, SIDE, SIDE)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "expected one TIFF movie, got 0"),
        (("m.tif",), "expected an output"),
        (("m.tif", "-o", "x.png"), "expected the output to be a .tif file"),
        (("m.tif", "-o", "m.tif"), "is the same file as the input"),
        (("m.tif", "-o", "x.tif", "--save-flow", "x.tif"), "expected different files"),
        (
            ("m.tif", "-o", "x.tif", "--method", "network"),
            "expected --method to be one of auto, rigid, patches, flow",
        ),
        (("m.tif", "-o", "x.tif", "--dtype", "int8"), "expected --dtype to be one of"),
        (("m.tif", "-o", "x.tif", "--order", 2), "expected --order 1 or 3"),
        (("m.tif", "-o", "x.tif", "--patch-px", 0), "--patch-px"),
        (("m.tif", "-o", "x.tif", "--refine-steps", -1), "expected --refine-steps of 0 or more, got -1"),
        (
            ("m.tif", "-o", "x.tif", *RIGID, "--refine-steps", 9),
            "expected --refine-steps with --method flow or auto, got --method rigid",
        ),
        (("m.tif", "-o", "x.tif", *RIGID, "--weights", "w.safetensors"), "expected --weights with --method"),
        (
            ("m.tif", "-o", "x.tif", "--method", "flow", "--weights", "w.safetensors"),
            "cannot read the weights file w.safetensors",
        ),
        (("m.tif", "-o", "x.tif", "--channel", 1), "expected --channel with a movie of several channels"),
        (("m.tif", "-o", "x.tif", "--reference", "frame:99"), "with K from 1 to 12"),
        (("m.tif", "-o", "x.tif", "--reference", "gone.tif"), "was not found"),
        (("m.tif", "-o", "x.tif", "--reference", "small.tif"), "expected a reference of 64x64 px"),
        (("nan.tif", "-o", "x.tif"), "has NaN, infinite or equal values"),
        (("sizes.tif", "-o", "x.tif"), "pages of different size"),
        (("empty.tif", "-o", "x.tif"), "empty file"),
        (("damaged.tif", "-o", "x.tif"), "frame 3 of damaged.tif is damaged"),
    ],
)
def test_mistakes_are_one_sentence(cli, movie, scratch, listing, words, sentence):
    frames = movie[0]
    tifffile.imwrite(scratch / "m.tif", frames)
    tifffile.imwrite(scratch / "small.tif", frames[0, :32])
    tifffile.imwrite(scratch / "nan.tif", np.full((6, 16, 18), np.nan, np.float32))
    with tifffile.TiffWriter(scratch / "sizes.tif") as tiff:
        tiff.write(frames[0])
        tiff.write(frames[0, 1:])
    (scratch / "empty.tif").write_bytes(b"")
    tifffile.imwrite(scratch / "damaged.tif", frames, compression="zlib")
    with tifffile.TiffFile(scratch / "damaged.tif") as tiff:
        offset = tiff.pages[2].dataoffsets[0]
    with open(scratch / "damaged.tif", "r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 30)
    before = listing()
    done = cli("register", *words)
    assert done.code == 2
    assert len(done.errors) == 1
    assert sentence in done.errors[0]
    assert listing() == before


def test_real_volumes_keep_their_planes(cli, data_folder, scratch):
    source = data_folder / "calcium" / "lightsheet_fish_20f.tif"
    assert cli("register", source, "-o", "out.tif", "--json", "q.json", *RIGID).code == 0
    with tifffile.TiffFile(scratch / "out.tif") as file:
        assert (file.series[0].shape, file.series[0].axes) == ((20, 2, 76, 87), "TZYX")
        assert file.series[0].dtype == np.uint8
    with open("q.json") as file:
        report = json.load(file)
    # This fish was held still: little is found, and frames are no less alike afterwards.
    assert np.abs(report["shift_px"]).max() < 0.15
    assert report["after"]["correlation"] >= report["before"]["correlation"]
