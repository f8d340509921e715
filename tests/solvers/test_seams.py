"""Seams of a stitched image: found where they are, evened out, and not found where there are none."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dps_jax.solvers.seams import BELIEVED, Seams, find_seams, fit_tiles, remove_seams
from dps_jax.synthetic.structures import TRAINING_FAMILIES, WITHHELD_FAMILIES
from dps_jax.training.artefact_data import ArtefactConfig, example

ABBE_PX = 5.0


def spots(rng, shape):
    """Irregular structure: blurred points of many brightnesses."""
    points = np.where(rng.random(shape) < 0.1, rng.exponential(1.0, shape), 0.0)
    image = gaussian_filter(points, 1.2)
    return image / image.max()


def stitched(rng, clean, rows, columns, *, gain=0.1, offset=0.03):
    """Give tiles that end after given rows and columns a gain and an offset each."""
    labels = (
        np.searchsorted(ends, np.arange(n)) for n, ends in zip(clean.shape, (rows, columns), strict=True)
    )
    gains, offsets = (
        rng.standard_normal((2, len(rows) + 1, len(columns) + 1)) * np.array([gain, offset])[:, None, None]
    )
    places = np.ix_(*labels)
    residual = gains[places] * clean + offsets[places]
    return clean + residual - residual.mean()


@pytest.mark.parametrize("shape", [(200, 200), (170, 233)])
@pytest.mark.parametrize(("side", "phase"), [(31, 12), (48, 40), (17, 3)])
def test_tiles_are_found_to_the_pixel_and_evened_out(rng, shape, side, phase):
    clean = spots(rng, shape)
    rows, columns = (np.arange(phase, n - 1, side) for n in shape)
    image = stitched(rng, clean, rows, columns)
    seams = find_seams(image, abbe_px=ABBE_PX)
    assert seams is not None
    assert seams.evidence >= BELIEVED
    inside = [lines[(lines > 1) & (lines < n - 3)] for lines, n in zip((rows, columns), shape, strict=True)]
    for found, lines in zip((seams.rows, seams.columns), inside, strict=True):
        assert set(lines) <= set(found)
    cleaned = remove_seams(image, seams, fit_tiles(image, seams, abbe_px=ABBE_PX))
    # The aim for a generated artefact: a fifth of its energy is left.
    assert np.sum((cleaned - clean) ** 2) < 0.2 * np.sum((image - clean) ** 2)
    assert cleaned.sum(dtype=float) == pytest.approx(image.sum(), rel=1e-5)


def test_gains_and_offsets_are_those_that_were_given(rng):
    """On a smooth image, whose sides meet exactly, up to what no seam can tell: one gain and one offset of all."""
    y, x = np.indices((120, 120))
    clean = 1.5 + np.sin(2 * np.pi * y / 120) * np.cos(2 * np.pi * x / 90)
    seams = Seams(np.array([39, 79]), np.array([59]), 40.0, 99.0)
    gains = np.array([[0.05, -0.05], [0.02, 0.0], [-0.04, 0.03]])
    offsets = np.array([[0.01, 0.0], [-0.03, 0.02], [0.0, -0.02]])
    places = np.ix_(*(np.searchsorted(e, np.arange(120)) for e in (seams.rows, seams.columns)))
    tiles = fit_tiles((1 + gains[places]) * clean + offsets[places], seams, abbe_px=ABBE_PX)
    for own, true in ((tiles.gains, gains), (tiles.offsets, offsets)):
        # Curvature over half a pixel, and what is expected of gains beforehand, shift them by a hundredth at most.
        np.testing.assert_allclose(own - own.mean(), true - true.mean(), atol=0.01)


def test_values_that_were_set_to_0_stay_0(rng):
    clean = np.where(spots(rng, (200, 200)) > 0.3, spots(rng, (200, 200)), 0.0)
    lines = np.arange(20, 199, 40)
    image = np.maximum(stitched(rng, clean, lines, lines), 0)
    seams = find_seams(image, abbe_px=ABBE_PX)
    cleaned = remove_seams(image, seams, fit_tiles(image, seams, abbe_px=ABBE_PX))
    assert cleaned.min() == 0
    np.testing.assert_array_equal(cleaned[image == 0], 0)
    assert abs(cleaned.sum(dtype=float) - clean.sum()) < abs(image.sum() - clean.sum())


@pytest.mark.parametrize("families", [TRAINING_FAMILIES, WITHHELD_FAMILIES], ids=["training", "withheld"])
def test_structure_has_no_seams(families):
    for seed in range(40):
        made = example(
            np.random.default_rng([9, seed]), (128, 128), ArtefactConfig(), families=families, kind="none"
        )
        assert find_seams(made.image, abbe_px=ABBE_PX) is None


def test_a_generated_artefact_goes():
    left = []
    for seed in range(12):
        rng = np.random.default_rng([8, seed])
        made = example(rng, (160, 160), ArtefactConfig(), families=WITHHELD_FAMILIES, kind="seams")
        seams = find_seams(made.image, abbe_px=ABBE_PX)
        image = made.image
        if seams is not None:
            image = remove_seams(image, seams, fit_tiles(image, seams, abbe_px=ABBE_PX))
        left.append(np.sum((image - made.clean) ** 2) / np.sum((made.image - made.clean) ** 2))
    assert np.mean(left) < 0.2


def test_gain_and_darkness(rng):
    image = stitched(rng, spots(rng, (150, 150)), np.arange(9, 149, 30), np.arange(9, 149, 30)).astype(
        np.float32
    )
    one, many = (find_seams(gain * image, abbe_px=ABBE_PX) for gain in (1.0, 1024.0))
    np.testing.assert_array_equal(one.rows, many.rows)
    tiles = [fit_tiles(g * image, one, abbe_px=ABBE_PX) for g in (1.0, 1024.0)]
    np.testing.assert_allclose(tiles[0].gains, tiles[1].gains, atol=1e-9)
    np.testing.assert_allclose(1024 * tiles[0].offsets, tiles[1].offsets, atol=1e-6)
    assert find_seams(np.zeros((150, 150)), abbe_px=ABBE_PX) is None
    assert find_seams(image[:40], abbe_px=ABBE_PX) is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image": np.ones((4, 4, 4))}, r"expected one image \(y, x\)"),
        ({"image": np.full((80, 80), np.nan)}, "expected an image of finite values"),
        ({"abbe_px": 0.0}, "expected abbe_px to be a finite number above 0"),
        ({"believed": -1.0}, "expected believed to be a finite number above 0"),
    ],
)
def test_refusals(wrong, message):
    with pytest.raises(ValueError, match=message):
        find_seams(**{"image": np.ones((80, 80)), "abbe_px": ABBE_PX, **wrong})
