"""Tile by tile from disk to disk: the same result as in memory, whatever the file, and refusals in a sentence."""

import dataclasses

import numpy as np
import pytest
import tifffile

from dps_jax import io
from dps_jax.io import UserError
from dps_jax.pipelines import budget, photometry, stream_light
from dps_jax.pipelines import plane as plane_module
from dps_jax.pipelines.restore import restore
from dps_jax.pipelines.restore_file import FileOptions, planned, restore_file
from dps_jax.pipelines.stream_file import describe_plan

OPTICS = FileOptions(na=1.4, wavelength_nm=(525.0,), tile_px=64, denoise="off")
TILES = 10_000_000  # a limit in bytes that tiles fit into and the image does not


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
    """As if Python and JAX took no memory, so that a small image can be too large; bands of a few rows."""
    monkeypatch.setattr(budget, "BASE_BYTES", 0)
    monkeypatch.setattr(budget, "_LOOK_BYTES", 0)
    monkeypatch.setattr(budget, "_BYTES_PER_INPUT", 10**4)
    monkeypatch.setattr(budget, "_FEWEST_FEATURES", 1)
    monkeypatch.setattr(stream_light, "BAND_PX", 3000)


def written(path, data, axes, **options):
    io.write_image(path, data, axes=axes, pixel_size_nm=65.0, description={}, **options)
    return path


def run(network, source, target, *, limit, options=OPTICS):
    lines = []
    restore_file(source, target, options, network, limit=limit, log=lines.append)
    assert any(line.startswith("tile by tile") for line in lines) == (limit == TILES)
    return io.read_image(target), io.read_description(target)


@pytest.fixture
def stack(noisy):
    return noisy(2, 3, 90, 130)


@pytest.mark.parametrize(
    ("name", "axes", "target", "bound"),
    [
        ("a.tif", "YX", "out.tif", 2e-6),
        ("a.tif", "TCYX", "out.tif", 2e-6),
        # Cut along the chunks of the output, not as in memory: tiles agree to 1e-4 of the range.
        ("a.zarr", "CZYX", "out.ome.zarr", 1e-4),
        ("a.zarr", "TYX", "out.tif", 2e-6),
    ],
)
def test_streamed_is_what_memory_gives(untrained, stack, tmp_path, name, axes, target, bound):
    """Levels come from a histogram of four million bins: a rounding of 2e-7 of the range, a few times over."""
    data = {2: stack[0, 0], 3: stack[0], 4: stack}[len(axes)]
    options = OPTICS
    if "C" in axes:
        colours = (525.0, 560.0, 600.0)[: data.shape[axes.index("C")]]
        options = dataclasses.replace(OPTICS, wavelength_nm=colours)
    source = written(tmp_path / name, data, axes)
    whole, told = run(untrained, source, tmp_path / "whole.tif", limit=10**12, options=options)
    tiled, said = run(untrained, source, tmp_path / target, limit=TILES, options=options)
    if target.endswith("zarr"):  # stored in the order of NGFF
        whole_data = whole.data.transpose([whole.axes.index(letter) for letter in tiled.axes])
    else:
        assert tiled.axes == whole.axes
        whole_data = whole.data
    assert tiled.pixel_size_nm == pytest.approx(whole.pixel_size_nm)
    assert np.abs(tiled.data - whole_data).max() < bound * np.ptp(whole_data)
    assert set(told) == set(said)
    for one, other in zip(told["checks"], said["checks"], strict=True):
        keys = ("background", "brightness", "gain", "reblur_correlation", "flux_correction")
        for key in (*keys, "photons_out_over_in"):
            assert other[key] == pytest.approx(one[key], rel=1e-4), key
        assert other["notes"] == one["notes"]


def test_the_light_of_a_file_is_that_of_its_array(stack, tmp_path):
    data = stack[:, 0] + 100
    with io.open_image(written(tmp_path / "a.tif", data, "TYX")) as image:
        found = stream_light.find_range(image)
        light = stream_light.measure_light(image, range(2), found, abbe_px=2.9)
    level = photometry.background_level(data, abbe_px=2.9)
    above = data - np.float32(level)
    # A bin and float32's rounding of values around the level.
    bound = float(np.ptp(data) * 2**-21 + 4 * np.spacing(data.max()))
    assert light.level == pytest.approx(level, abs=bound)
    assert light.unit == pytest.approx(photometry.brightness(above, abbe_px=2.9), abs=2 * bound)
    np.testing.assert_allclose(light.totals, above.sum((1, 2), dtype=np.float64), atol=bound * above[0].size)
    assert (found.lowest, found.highest) == (data.min(), data.max())


def test_images_of_other_sizes_run_the_same_program(untrained, make_system, noisy):
    before = plane_module.apply_network._cache_size()
    for shape in ((70, 69), (80, 75), (98, 83), (72, 72)):
        restore(noisy(*shape), make_system(75.0), untrained)
    assert plane_module.apply_network._cache_size() - before <= 1


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"adapt": 5}, "--adapt needs all of it; leave --adapt out"),
        ({"denoise": "strong"}, "--denoise strong needs all of it; leave --denoise out"),
        ({"artefacts": "auto"}, "--artefacts auto needs"),
        ({"keep_intermediates": True}, "--keep-intermediates needs"),
        ({"background_radius_nm": 900.0}, "--background-radius-nm needs"),
        ({"steady_frames": 1}, "--steady-frames needs"),
    ],
)
def test_options_that_need_the_whole_image(untrained, stack, tmp_path, change, name):
    source = written(tmp_path / "a.tif", stack[0], "TYX")
    with pytest.raises(
        UserError, match=r"more than the limit of 10 MB, so it is restored tile by tile, and " + name
    ):
        restore_file(
            source, tmp_path / "out.tif", dataclasses.replace(OPTICS, **change), untrained, limit=TILES
        )
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_refused_before_or_during_and_nothing_left(untrained, stack, tmp_path, monkeypatch):
    source = written(tmp_path / "a.tif", stack[0, 0], "YX")
    with pytest.raises(UserError, match="even in the smallest tiles, more than the limit of 10 kB"):
        restore_file(source, tmp_path / "out.tif", OPTICS, untrained, limit=10_000)
    bad = stack[0].copy()
    bad[1, 60, 7] = np.nan
    with pytest.raises(UserError, match=r"has values that are NaN or infinite, the first at t 1, y 60, x 7"):
        restore_file(
            written(tmp_path / "b.tif", bad, "TYX"), tmp_path / "out.tif", OPTICS, untrained, limit=TILES
        )
    flat = written(tmp_path / "c.tif", np.full((90, 130), 7, np.uint16), "YX")
    with pytest.raises(UserError, match="all its pixels are 7"):
        restore_file(flat, tmp_path / "out.zarr", OPTICS, untrained, limit=TILES)

    def stopped(*_):
        raise KeyboardInterrupt

    for target in ("out.tif", "out.zarr"):
        with pytest.raises(KeyboardInterrupt):
            restore_file(source, tmp_path / target, OPTICS, untrained, limit=TILES, runner=stopped, log=str)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "b.tif", "c.tif"]
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"would need 0.000187 GB, and its disk has 1e-06 GB free"):
        restore_file(source, tmp_path / "out.tif", OPTICS, untrained, limit=TILES)


def test_the_plan_tells_what_will_be_done(untrained, stack, tmp_path):
    source = written(tmp_path / "a.tif", stack[0], "TYX")
    for limit, method in ((TILES, "tile by tile, from disk to disk"), (10**12, "in memory")):
        with planned(source, tmp_path / "out.tif", OPTICS, untrained, limit=limit) as job:
            lines = describe_plan(job)
        text = "\n".join(lines)
        assert f"method: {method}, 3 plane(s) of 90x130 px to 180x260 px of 32.50 nm" in text
        assert f"tiles: {job.tiles}, each" in text
        assert "disk: 562 kB" in text
        assert "time: about" in text
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_a_declared_size_beyond_all_memory_is_planned_not_allocated(untrained, tmp_path):
    """A million by a million: more than the disk, said before anything is allocated."""
    path = tmp_path / "bomb.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            np.zeros((16, 16), np.uint8),
            resolution=(1000 / 65, 1000 / 65),
            metadata=None,
            photometric="minisblack",
        )
    text = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for code in ("ImageWidth", "ImageLength"):
            tag = file.pages[0].tags[code]
            text[tag.valueoffset : tag.valueoffset + 4] = (10**6).to_bytes(4, "little")
    path.write_bytes(text)
    options = dataclasses.replace(OPTICS, pixel_size_nm=65.0)
    with pytest.raises(UserError, match=r"cut short|fewer bytes|never written"):
        restore_file(path, tmp_path / "out.tif", options, untrained, limit=TILES)
