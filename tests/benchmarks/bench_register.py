"""Frames per second of motion correction at 512 x 512, from file to file, template included; memory on a 3 GB movie.

Off in the suite. Wanted on two free cores: 100 frames/s rigidly, 45 patch by patch. A busy machine shows less, so that
processor time is printed, too: two cores have 2000 ms per second. The ratios are to OpenCV's DIS flow on the same
frames in the same run, by processor time; it has no template to make, no file to read or write, and nothing to report.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dps_jax.io.frames import frame_writer
from dps_jax.pipelines.register_file import RegisterOptions, register_file
from dps_jax.synthetic import deformations, two_photon

SIDE, MARGIN, FRAMES, DRAWN, ROUNDS = 512, 16, 1000, 24, 3
METHODS = ("rigid", "patches")


@pytest.fixture(scope="module")
def frames():
    """Counts of a scene that moves and deforms, a few frames that are shown over and over."""
    rng = np.random.default_rng(0)
    wide = (SIDE + 2 * MARGIN,) * 2
    # Four times the same, since every cell's mask would be as large as the frame; no shift looked for is as long.
    clean = np.tile(two_photon.movie(rng, tuple(n // 2 for n in wide), frames=1)[0][0], (2, 2))
    moved = []
    for _ in range(DRAWN):
        motion = deformations.bump_flow(rng, wide, shift_px=4.0) + rng.normal(0, 2, (2, 1, 1))
        moved.append(deformations.displaced(clean, motion)[MARGIN:-MARGIN, MARGIN:-MARGIN])
    return rng.poisson(30 * np.stack(moved)).astype(np.uint16)


def write_movie(path, frames, count):
    shape = (count, *frames.shape[1:])
    with frame_writer(path, shape=shape, dtype=np.uint16, axes="TYX", description={}) as write:
        for index in range(count):
            write(index, frames[index * 7 % len(frames)])


@contextlib.contextmanager
def measured(times):
    wall, processor = time.perf_counter(), time.process_time()
    yield
    times.append((time.perf_counter() - wall, time.process_time() - processor))


def optical_flow(cv2, frames, template):
    """Correct frames by DIS, at its medium preset, and read them along the flow."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    low, high = np.percentile(template, [0.5, 99.8])

    def grey(image):
        smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0)
        return np.clip(255 * (smooth - low) / (high - low), 0, 255).astype(np.uint8)

    reference, (y, x) = grey(template), np.indices(template.shape, np.float32)
    for frame in frames:
        flow = dis.calc(reference, grey(frame), None)
        cv2.remap(frame.astype(np.float32), x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)


def test_frames_per_second(figure, frames, tmp_path):
    cv2 = pytest.importorskip("cv2")
    write_movie(tmp_path / "m.tif", frames, FRAMES)
    write_movie(tmp_path / "short.tif", frames, 2 * DRAWN)

    def register(name, method):
        register_file(
            tmp_path / name, tmp_path / "out.tif", RegisterOptions(method=method), log=lambda _: None
        )

    times = {name: [] for name in (*METHODS, "DIS")}
    for method in METHODS:  # compile
        register("short.tif", method)
    optical_flow(cv2, frames[:2], frames.mean(0))
    for _ in range(ROUNDS):
        for method in METHODS:
            with measured(times[method]):
                register("m.tif", method)
        with measured(times["DIS"]):
            optical_flow(cv2, frames, frames.mean(0))
    counts = {"rigid": FRAMES, "patches": FRAMES, "DIS": len(frames)}
    processor = {}
    print()
    for name, runs in times.items():
        wall, used = (statistics.median(t) / counts[name] for t in zip(*runs, strict=True))
        processor[name] = used
        print(
            f"{name:8s} {1 / wall:7.1f} frames/s as it was, {1000 * used:6.1f} ms of processor per frame: "
            f"{2 / used:6.1f} frames/s if two cores were free and both busy"
        )
    for method, frames_per_s, times_dis in (("rigid", 100, 1.5), ("patches", 45, 1)):
        wall = statistics.median(wall for wall, _ in times[method]) / FRAMES
        figure(
            f"motion correction, {method}, 512 px, file to file", 1 / wall, "frames/s", at_least=frames_per_s
        )
        ratio = processor["DIS"] / processor[method]
        figure(f"DIS flow alone over {method}, processor time", ratio, at_least=times_dis)


LONG = int(os.environ.get("DPS_JAX_MOVIE_FRAMES", "6000"))
# Peak memory of the process alone: what getrusage says starts from its parent's.
RUN = """
import re, sys
from dps_jax.cli import main
code = main(sys.argv[1:])
print(int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) // 1024)
sys.exit(code)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("method", METHODS)
def test_memory_of_a_long_movie(figure, frames, tmp_path, method):
    """A BigTIFF of 3 GB whose pages all point at a few frames: a file of 13 MB that reads as a movie of 6000.

    DPS_JAX_MOVIE_FRAMES=40000 makes it one of 20 GB, and takes as much room for the result.
    """
    peaks = {}
    for count in (200, LONG):
        path = tmp_path / f"{count}.tif"
        repeated_pages(path, frames, count)
        words = ("register", path, "-o", tmp_path / "out.tif", "--method", method)
        done = subprocess.run(
            [sys.executable, "-c", RUN, *map(str, words)], capture_output=True, text=True, check=True
        )
        peaks[count] = int(done.stdout.split()[-1])
        with tifffile.TiffFile(tmp_path / "out.tif") as written:
            assert len(written.pages) == count or written.series[0].shape[0] == count
    print(f"\n{method}: peak memory {peaks} MB for so many frames of 0.5 MB")
    figure(
        f"motion correction, {method}: peak memory, {LONG} frames of 0.5 MB", peaks[LONG], "MB", at_most=2048
    )
    # What a frame may cost is its page and its numbers: 10 kB.
    assert peaks[LONG] - peaks[200] < 0.01 * (LONG - 200) + 100


def repeated_pages(path, frames, count):
    """Write a BigTIFF whose pages share their pixels: one directory each, few strips."""
    import struct

    head, entry = 16, 20
    size = frames[0].nbytes
    tags = [(256, 4, SIDE), (257, 4, SIDE), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 16, None)]
    tags += [(277, 3, 1), (278, 4, SIDE), (279, 16, size)]
    first = head + frames.nbytes
    step = 8 + entry * len(tags) + 8
    with open(path, "wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, first))
        file.write(frames.astype("<u2").tobytes())
        for index in range(count):
            file.write(struct.pack("<Q", len(tags)))
            for tag, kind, value in tags:
                place = head + size * (index * 7 % len(frames)) if value is None else value
                file.write(struct.pack("<HHQQ", tag, kind, 1, place))
            file.write(struct.pack("<Q", 0 if index == count - 1 else first + (index + 1) * step))
