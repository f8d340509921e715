"""Tiles: their cores cover every pixel once, and all see the same grid in the same phase."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dps_jax.pipelines.tiling import SIDES, count_tiles, cut_axis, mirrored, plan_tiles

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


@settings(deadline=None)
@given(
    canonical=st.integers(1, 9000),
    out_per_canonical=st.floats(0.3, 9.0),
    halo=st.integers(2, 90),
    multiple=st.sampled_from([1, 4, 8]),
    tile_px=st.integers(8, 2000),
    align=st.sampled_from([1, 64]),
)
def test_pieces_cover_an_axis_and_see_far_enough(
    canonical, out_per_canonical, halo, multiple, tile_px, align
):
    length = max(1, round(canonical * out_per_canonical))
    try:
        axis = cut_axis(
            length,
            canonical,
            out_per_canonical=out_per_canonical,
            halo_px=halo,
            multiple=multiple,
            tile_px=tile_px,
            align_px=align,
        )
    except ValueError:
        assert align > tile_px * out_per_canonical - 1  # no whole chunk fits into a tile
        return
    assert axis.side % multiple == 0
    pieces = [axis.piece(k) for k in range(axis.count)]
    for spans in ([out for out, _, _ in pieces], [core for _, _, core in pieces]):
        assert spans[0][0] == 0
        assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
    assert pieces[-1][0][1] == length
    assert pieces[-1][2][1] == canonical
    for (first, stop), (start, end), core in pieces:
        assert first % align == 0
        assert start % multiple == 0
        assert end - start == axis.side
        assert start <= core[0] <= core[1] <= end
        # Everything within the halo of what is written is seen.
        assert start <= first / out_per_canonical - halo
        assert end >= stop / out_per_canonical + halo - 1e-6
        assert (stop - first) / out_per_canonical <= tile_px + 1 + 0.5 / out_per_canonical


def test_images_of_many_sizes_share_a_few_sides():
    sides = {
        cut_axis(2 * n, n, out_per_canonical=2.0, halo_px=42, multiple=4, tile_px=1334).side
        for n in range(16, 1334, 7)
    }
    assert sides <= set(SIDES)
    # 20,000 px of 65 nm at NA 1.4 and 525 nm: the network is run on less than 15 % more pixels, both axes together.
    large = cut_axis(2 * 17_334, 17_334, out_per_canonical=2.0, halo_px=42, multiple=4, tile_px=1334)
    assert (large.count * large.side / large.canonical) ** 2 < 1.15
