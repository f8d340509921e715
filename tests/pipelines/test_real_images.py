"""Two independent confocal exposures of one field of microtubules: what is sharpened must repeat."""

import numpy as np
import pytest
import tifffile

from dps_jax.metrics.frc import frc_resolution
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines.restore import restore

# NA and emission as the source of the images states them, and its pixel size.
SHIFT_PX = (3, 2)  # origin of the second exposure on the first
SYSTEM = OpticalSystem(na=1.45, wavelength_nm=525.0, pixel_size_nm=51.79)


@pytest.fixture(scope="module")
def confocal(data_folder, released):
    raw = []
    for repeat in "ab":
        path = data_folder / "fluorescence" / f"confocal_mt_au1.2_{repeat}.tif"
        if not path.is_file():
            pytest.skip(f"{path.name} not found in {path.parent}")
        raw.append(tifffile.imread(path))
    # The second exposure begins elsewhere on the pixel grid: see the test of the resolution.
    raw[1] = np.ascontiguousarray(raw[1][SHIFT_PX[0] :, SHIFT_PX[1] :])
    return raw, [restore(image, SYSTEM, released) for image in raw]


def test_photons_and_fidelity(confocal):
    for image, result in zip(*confocal, strict=True):
        assert result.image.shape == tuple(2 * n for n in image.shape)
        report = result.report
        assert report.photons_out_over_in == pytest.approx(1, abs=0.02)
        light = (image.astype(np.float64) - report.background).sum()
        assert result.image.sum(dtype=np.float64) == pytest.approx(light, rel=0.02)
        assert report.reblur_correlation >= 0.97
        assert report.notes == ()


def test_two_exposures_agree_to_finer_detail_after_than_before(confocal):
    # What a network puts at the same place of its pixel grid in any image would correlate in two images and count
    # as resolved: with equal grids the curve does not fall at all. So the second image is restored from another
    # origin, which is no whole number of the network's pixels away, and then laid over the first.
    raw, restored = confocal
    dy, dx = SHIFT_PX
    ny, nx = raw[1].shape
    first, second = raw[0][dy:, dx:].astype(np.float32), raw[1].astype(np.float32)
    before = float(frc_resolution(first, second, pixel_size_nm=51.79))
    first, second = restored[0].image[2 * dy :, 2 * dx :], restored[1].image
    inner = (slice(64, 2 * ny - 64), slice(64, 2 * nx - 64))
    after = float(frc_resolution(first[inner], second[inner], pixel_size_nm=51.79 / 2))
    # The reading that is known for this pair is about 175 nm.
    assert before == pytest.approx(175, abs=15)
    assert after < before
