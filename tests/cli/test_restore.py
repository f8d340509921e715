"""Happy paths of ``dps-jax restore``, read back with tifffile alone; and what is allowed but said."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import tifffile

from dps_jax import io
from dps_jax.io.manifest import NAME
from dps_jax.solvers import subtract_background
from dps_jax.weights import released_path

OPTICS = ["--na", "1.4", "--wavelength-nm", "525"]
# float32 sums of some 10,000 pixels, and a division by their ratio: 1e-4 is ten times their rounding.
PHOTONS = 1e-4


def test_plane(cli, save, cell, opened):
    save("cell.tif", cell[:61])
    ran = cli("restore", "cell.tif", "-o", "out.tif", *OPTICS)
    assert (ran.code, ran.out, ran.errors) == (0, "", [])
    assert "pixel 65.00 nm (from ImageJ metadata)" in ran.err
    assert "wrote out.tif: pixel 32.50 nm" in ran.err
    data, axes, pixel_nm, metadata = opened("out.tif")
    assert (data.shape, data.dtype, axes) == ((122, 128), np.float32, "YX")
    # The tag is a ratio of two 32-bit whole numbers.
    np.testing.assert_allclose(pixel_nm, 32.5, rtol=1e-6)
    assert metadata["unit"] == "micron"
    assert data.min() >= 0
    assert data.max() > 0


def test_description(cli, save, cell):
    save("cell.tif", cell)
    assert cli("restore", "cell.tif", "-o", "out.tif", *OPTICS, "--background", "20").code == 0
    found = io.read_description("out.tif")
    assert found["operation"] == "restore"
    assert found["input"] == "cell.tif"
    assert found["settings"]["na"] == 1.4
    assert found["settings"]["wavelength_nm"] == [525.0]
    assert found["settings"]["background"] == 20.0
    assert found["input_pixel_size_nm"] == pytest.approx(65.0)
    assert found["weights_sha256"] == hashlib.sha256(released_path().read_bytes()).hexdigest()
    (check,) = found["checks"]
    assert check["abbe_nm"] == pytest.approx(187.5)
    assert check["photons_out_over_in"] == pytest.approx(1.0, abs=PHOTONS)
    # The same text is what Fiji shows: JSON in ImageJ's Info.
    with tifffile.TiffFile("out.tif") as file:
        assert json.loads(file.imagej_metadata["Info"])["dps_jax"] == found


def test_photons_are_those_above_the_background(cli, save, cell, opened):
    save("cell.tif", cell)
    assert cli("restore", "cell.tif", "-o", "out.tif", *OPTICS, "--background", "20").code == 0
    data = opened("out.tif")[0]
    assert data.sum(dtype=np.float64) == pytest.approx(cell.sum() - 20 * cell.size, rel=PHOTONS)


def test_the_same_command_gives_the_same_bytes(cli, save, cell, scratch):
    save("cell.tif", cell)
    written = []
    for _ in range(2):
        assert cli("restore", "cell.tif", "-o", "out.tif", *OPTICS).code == 0
        written.append((scratch / "out.tif").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("axes", ["TYX", "ZYX", "CYX", "TCYX"])
def test_stacks(cli, save, cell, opened, axes):
    stack = np.stack([cell, np.flipud(cell), np.fliplr(cell), cell.T])
    stack = stack.reshape(2, 2, 64, 64) if len(axes) == 4 else stack[:3]
    save("stack.tif", stack, axes, spacing=0.3, finterval=2.0)
    ran = cli("restore", "stack.tif", "-o", "out.tif", *OPTICS)
    assert (ran.code, ran.errors) == (0, [])
    data, found, pixel_nm, metadata = opened("out.tif")
    assert (data.shape, found, data.dtype) == ((*stack.shape[:-2], 128, 128), axes, np.float32)
    np.testing.assert_allclose(pixel_nm, 32.5, rtol=1e-6)
    assert metadata["spacing"] == pytest.approx(0.3)
    assert metadata["finterval"] == pytest.approx(2.0)
    # Every plane is in its own place: light of its own input, and more like it than like any other.
    flat, planes = data.reshape(-1, 128, 128), stack.reshape(-1, 64, 64).astype(float)
    binned = flat.reshape(-1, 64, 2, 64, 2).sum(axis=(2, 4))
    likeness = np.corrcoef(binned.reshape(len(flat), -1), planes.reshape(len(planes), -1))[
        : len(flat), len(flat) :
    ]
    np.testing.assert_array_equal(likeness.argmax(axis=1), np.arange(len(flat)))


def test_several_pages(cli, scratch, cell, opened):
    with tifffile.TiffWriter(scratch / "pages.tif") as file:
        for plane in (cell, cell.T):
            file.write(plane, contiguous=False, metadata=None)
    ran = cli("restore", "pages.tif", "-o", "out.tif", *OPTICS, "--pixel-size-nm", "65")
    assert ran.code == 0
    assert "read as TYX" in ran.err
    assert opened("out.tif")[0].shape == (2, 128, 128)


def test_one_wavelength_per_channel(cli, save, cell, opened):
    save("two.tif", np.stack([cell, cell]), "CYX")
    for wavelength in ("525", "670"):
        save("one.tif", cell)
        words = ("--na", "1.4", "--wavelength-nm", wavelength)
        assert cli("restore", "one.tif", "-o", f"one_{wavelength}.tif", *words).code == 0
    ran = cli("restore", "two.tif", "-o", "out.tif", *OPTICS, "--wavelength-nm", "670")
    assert ran.code == 0
    assert "channel 1: Abbe period 188 nm" in ran.err
    assert "channel 2: Abbe period 239 nm" in ran.err
    data = opened("out.tif")[0]
    np.testing.assert_array_equal(data[0], opened("one_525.tif")[0])
    np.testing.assert_array_equal(data[1], opened("one_670.tif")[0])
    assert not np.array_equal(data[0], data[1])
    assert [check["abbe_nm"] for check in io.read_description("out.tif")["checks"]] == pytest.approx(
        [187.5, 239.29], abs=0.01
    )


def test_an_empty_channel_is_said(cli, save, cell, opened):
    save("two.tif", np.stack([cell, np.zeros_like(cell)]), "CYX")
    ran = cli("restore", "two.tif", "-o", "out.tif", *OPTICS)
    assert ran.code == 0
    assert any("channel 2 holds nothing above the background" in note for note in ran.notes)
    data = opened("out.tif")[0]
    assert data[0].max() > 0
    assert not data[1].any()
    assert any("channel 2" in note for note in io.read_description("out.tif")["notes"])


@pytest.mark.parametrize("output", ["new/deep", "there", "there/"])
def test_folder(cli, save, cell, scratch, output):
    (scratch / "there").mkdir()
    save("a.tif", cell)
    save("b.tiff", cell.T)
    assert cli("restore", "a.tif", "b.tiff", "-o", output, *OPTICS).code == 0
    assert sorted(path.name for path in (scratch / output).iterdir()) == [
        "a_restored.tif",
        "b_restored.tif",
        NAME,
    ]


def test_one_file_into_a_folder(cli, save, cell, listing):
    save("a.tif", cell)
    assert cli("restore", "a.tif", "-o", "results", *OPTICS).code == 0
    assert listing() == ["a.tif", "results", "results/a_restored.tif", f"results/{NAME}"]


def test_one_bad_file_of_three(cli, save, cell, scratch, listing):
    save("a.tif", cell)
    (scratch / "b.tif").write_bytes(b"no image")
    save("c.tif", cell.T)
    ran = cli("restore", "a.tif", "b.tif", "c.tif", "-o", "out", *OPTICS)
    assert ran.code == 3
    assert ran.errors[0].startswith("error: b.tif is not a TIFF")
    assert ran.errors[1:] == ["error: 1 of 3 files could not be restored; the reasons are above."]
    assert [name for name in listing() if name.startswith("out/")] == [
        "out/a_restored.tif",
        "out/c_restored.tif",
        f"out/{NAME}",
    ]
    assert cli("restore", "a.tif", "-o", "alone.tif", *OPTICS).code == 0
    assert (scratch / "alone.tif").read_bytes() == (scratch / "out/a_restored.tif").read_bytes()


def test_the_users_pixel_size_wins(cli, save, cell, opened):
    save("cell.tif", cell)
    ran = cli("restore", "cell.tif", "-o", "out.tif", *OPTICS, "--pixel-size-nm", "80")
    assert ran.code == 0
    assert "pixel 80.00 nm (given by --pixel-size-nm)" in ran.err
    np.testing.assert_allclose(opened("out.tif")[2], 40.0, rtol=1e-6)
    assert io.read_description("out.tif")["input_pixel_size_origin"] == "given by --pixel-size-nm"


def test_output_pixel_size(cli, save, cell, opened):
    save("cell.tif", cell)
    ran = cli("restore", "cell.tif", "-o", "out.tif", *OPTICS, "--output-pixel-size-nm", "40")
    assert ran.code == 0
    data, _, pixel_nm, _ = opened("out.tif")
    assert data.shape == (104, 104)  # 64 px of 65 nm
    np.testing.assert_allclose(pixel_nm, 40.0, rtol=1e-6)


def test_coarse_output_is_said(cli, save, cell):
    save("cell.tif", cell)
    ran = cli("restore", "cell.tif", "-o", "out.tif", *OPTICS, "--output-pixel-size-nm", "65")
    assert ran.code == 0
    # Half of 187.5 nm / 1.67.
    assert any("65 nm cannot hold the whole gain in resolution (at most 56.14 nm do)" in n for n in ran.notes)


def test_rolling_ball(cli, save, cell, opened):
    """A slope from side to side is light for a constant background, and background for the ball."""
    slope = np.broadcast_to(np.linspace(0, 400, 64), (64, 64))
    uneven = (cell + slope).astype(np.uint16)
    save("uneven.tif", uneven)
    assert cli("restore", "uneven.tif", "-o", "constant.tif", *OPTICS, "--background", "0").code == 0
    words = ("--background", "0", "--background-radius-nm", "800")
    assert cli("restore", "uneven.tif", "-o", "ball.tif", *OPTICS, *words).code == 0
    constant, ball = (opened(name)[0].sum(dtype=np.float64) for name in ("constant.tif", "ball.tif"))
    foreground, _ = subtract_background(uneven.astype(np.float32), radius_nm=800, pixel_size_nm=65)
    assert constant == pytest.approx(uneven.sum(), rel=PHOTONS)
    assert ball == pytest.approx(foreground.sum(dtype=np.float64), rel=PHOTONS)
    assert ball < 0.5 * constant


def test_own_weights(cli, save, cell, scratch):
    shutil.copy(released_path(), scratch / "mine.safetensors")
    save("cell.tif", cell)
    assert cli("restore", "cell.tif", "-o", "a.tif", *OPTICS, "--weights", "mine.safetensors").code == 0
    assert cli("restore", "cell.tif", "-o", "b.tif", *OPTICS).code == 0
    assert (scratch / "a.tif").read_bytes() == (scratch / "b.tif").read_bytes()


def _negative(cell):
    return cell.astype(np.float32) - 30


def _saturated(cell):
    return np.minimum(4 * cell, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        (_negative, [], "are negative, down to -"),
        (_saturated, [], "are saturated at 255"),
        (np.asarray, ["--pixel-size-nm", "100"], "100.0 nm is too coarse for the optics (at most 93.8 nm"),
    ],
)
def test_allowed_and_said(cli, save, cell, opened, change, words, message):
    data = change(cell)
    save("cell.tif", data)
    ran = cli("restore", "cell.tif", "-o", "out.tif", *OPTICS, *words)
    assert ran.code == 0
    assert any(message in note for note in ran.notes), ran.err
    assert np.isfinite(opened("out.tif")[0]).all()
    said = io.read_description("out.tif")
    assert any(message in note for note in [*said["notes"], *said["checks"][0]["notes"]])


def test_negative_pixels_are_counted(cli, save, cell):
    data = _negative(cell)
    save("cell.tif", data)
    count = np.count_nonzero(data < 0)
    assert count > 0
    ran = cli("restore", "cell.tif", "-o", "out.tif", *OPTICS)
    assert f"{count} pixels ({count / data.size:.2%}) are negative, down to {data.min():g}" in ran.err


def test_real_confocal_image(cli, data_folder, opened):
    """Stated: 51.79 nm per pixel, in the file as in the manifest."""
    source = data_folder / "fluorescence" / "confocal_mt_au1.2_a.tif"
    ran = cli("restore", source, "-o", "out.tif", "--na", "1.45", "--wavelength-nm", "525")
    assert ran.code == 0
    data, _, pixel_nm, _ = opened("out.tif")
    assert data.shape == (1024, 1024)
    np.testing.assert_allclose(pixel_nm, 51.79 / 2, rtol=1e-3)
    (check,) = io.read_description("out.tif")["checks"]
    assert check["photons_out_over_in"] == pytest.approx(1.0, abs=PHOTONS)
