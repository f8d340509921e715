"""Tiles: their cores cover every pixel once, and all see the same grid in the same phase."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dps_jax.pipelines.tiling import count_tiles, mirrored, plan_tiles

LENGTHS = st.integers(1, 160)
GEOMETRY = {
    "ny": LENGTHS,
    "nx": LENGTHS,
    "tile_px": st.integers(8, 250),
    "multiple": st.sampled_from([1, 2, 4, 8, 16]),
    "halo": st.integers(0, 9),
}


@settings(deadline=None)
@given(**GEOMETRY)
def test_cores_cover_the_plane_exactly_once(ny, nx, tile_px, multiple, halo):
    tiles = list(plan_tiles((ny, nx), tile_px=tile_px, halo_px=halo * multiple, multiple=multiple))
    # Cores that form a grid cover the plane once if their rows and columns do.
    for axis, n in ((0, ny), (1, nx)):
        spans = sorted({t.core[axis] for t in tiles})
        assert spans[0][0] == 0
        assert spans[-1][1] == n
        assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
        assert all(stop > start for start, stop in spans)
    cores = [t.core for t in tiles]
    assert len(set(cores)) == len(cores) == count_tiles((ny, nx), tile_px=tile_px, multiple=multiple)
    assert sum((y[1] - y[0]) * (x[1] - x[0]) for y, x in cores) == ny * nx


@settings(deadline=None)
@given(**GEOMETRY)
def test_tiles_are_equal_in_size_and_phase(ny, nx, tile_px, multiple, halo):
    tiles = list(plan_tiles((ny, nx), tile_px=tile_px, halo_px=halo * multiple, multiple=multiple))
    sizes = {tuple(stop - start for start, stop in t.padded) for t in tiles}
    assert len(sizes) == 1
    largest = max(multiple, tile_px)
    for tile in tiles:
        for (core_start, core_stop), (start, stop) in zip(tile.core, tile.padded, strict=True):
            assert start % multiple == 0
            assert (stop - start) % multiple == 0
            assert core_start % multiple == 0
            assert core_start - start == halo * multiple
            assert stop - core_stop >= halo * multiple
            assert stop - start <= largest + 2 * halo * multiple


@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (65, 129), (37, 200)])
def test_painting_the_cores_paints_each_pixel_once(shape):
    painted = np.zeros(shape, int)
    for tile in plan_tiles(shape, tile_px=40, halo_px=8, multiple=4):
        painted[tuple(slice(*span) for span in tile.core)] += 1
    assert (painted == 1).all()


@settings(deadline=None)
@given(length=st.integers(1, 50), before=st.integers(0, 200), after=st.integers(0, 200))
def test_mirrored_is_symmetric_padding(length, before, after):
    expected = np.pad(np.arange(length), (before, after), mode="symmetric")
    assert np.array_equal(mirrored(-before, length + after, length), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile_px": 0}, "tile_px to be a whole number of 1 or more, got 0"),
        ({"tile_px": 64.0}, "tile_px to be a whole number of 1 or more, got 64.0"),
        ({"multiple": 0}, "multiple to be a whole number of 1 or more, got 0"),
        ({"halo_px": 10}, "a halo that is a multiple of 4 px, got 10"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=f"expected {message}"):
        list(plan_tiles((64, 64), **{"tile_px": 64, "halo_px": 8, "multiple": 4, **changes}))
