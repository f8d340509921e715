"""Where there is nothing, the released network shows nothing: empty fields, pure noise, a smooth blob.

A field without structure still has photon noise, and a restoration may not make more of it than the camera did. At
the promised resolution (a Gaussian of 0.3 Abbe periods) the contrast of a restored flat field must stay below that of
single camera pixels, 1 / sqrt(photons); and what noise leaves must differ from exposure to exposure: texture of the
network's own would stand in all of them at the same place.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.metrics.scores import at_promised_resolution
from dps_jax.pipelines.restore import restore

SIDE, EXPOSURES = 64, 8
EDGE = slice(16, -16)


def seen(image, abbe_px):
    """The restored image at the promised resolution, in photons per camera pixel, without its edges."""
    return 4 * np.asarray(at_promised_resolution(jnp.asarray(image), abbe_px=abbe_px))[EDGE, EDGE]


@pytest.fixture(scope="module")
def restored(released, make_system):
    """Restore several exposures of one field of expected photons; canonical sampling."""
    system = make_system(75.0)

    def of(field):
        rng = np.random.default_rng(17)
        exposures = rng.poisson(np.broadcast_to(field, (EXPOSURES, SIDE, SIDE)))
        results = [restore(e, system, released, background=0.0).image for e in exposures]
        return np.stack([seen(r, 2 * float(system.abbe_px)) for r in results])

    return of


@pytest.mark.parametrize("photons", [30.0, 300.0])
def test_a_flat_field_stays_flat(restored, photons):
    result = restored(np.full((SIDE, SIDE), photons))
    assert result.mean() == pytest.approx(photons, rel=0.02)
    noise = np.sqrt(photons)  # of one camera pixel
    assert result.std(axis=(1, 2)).max() < noise
    # The mean of 8 exposures keeps 1 / sqrt(8) of what changes and all of what does not.
    standing = np.sqrt(max(result.mean(0).var() - result.var(axis=0, ddof=1).mean() / EXPOSURES, 0.0))
    assert standing < 0.2 * noise


@pytest.mark.parametrize("pixel_size_nm", [40.0, 20.0])
@pytest.mark.parametrize("photons", [30.0, 300.0])
def test_a_flat_field_of_finer_pixels_stays_flat(released, make_system, pixel_size_nm, photons):
    # The same light on smaller pixels: noisier pixels, but no more noise in a patch of the canonical pixel's size.
    system, finer = make_system(pixel_size_nm), 75.0 / pixel_size_nm
    rng = np.random.default_rng(18)
    side = round(finer * SIDE)
    exposure = rng.poisson(np.full((side, side), photons / finer**2))
    result = restore(exposure, system, released, background=0.0).image
    rim = round(2 * finer * 16)
    flat = np.asarray(at_promised_resolution(jnp.asarray(result), abbe_px=2 * float(system.abbe_px)))[
        rim:-rim, rim:-rim
    ]
    assert flat.std() / flat.mean() < 1 / np.sqrt(photons)


def test_a_blob_stays_a_blob(restored):
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    blob = 300 * np.exp(-0.5 * (y**2 + x**2) / 16**2) + 1
    result = restored(blob)
    fine_y, fine_x = (np.mgrid[: 2 * SIDE, : 2 * SIDE] - (2 * SIDE - 1) / 2) / 2
    expected = (300 * np.exp(-0.5 * (fine_y**2 + fine_x**2) / 16**2) + 1)[EDGE, EDGE]
    error = (result - expected) / np.sqrt(expected)
    assert error.std() < 1


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_an_empty_field_stays_empty(released, make_system, seed):
    # One photon in a hundred pixels, and read noise: nothing to see. The light may not be gathered into structures: no
    # camera pixel of the result may stand out of the noise by the five sigma at which one would call it an object.
    rng = np.random.default_rng(seed)
    dark = rng.poisson(0.01, (SIDE, SIDE)) + rng.normal(0, 0.5, (SIDE, SIDE))
    result = restore(dark, make_system(75.0), released).image
    camera = result.reshape(SIDE, 2, SIDE, 2).sum((1, 3))
    assert camera.std() < 0.5 * dark.std()  # measured: 0.27
    assert camera.max() < 5 * dark.std()
    assert result.max() < np.abs(dark).max()
    assert result.sum() == pytest.approx(0.0, abs=SIDE**2 * 0.5)
