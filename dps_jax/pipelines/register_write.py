"""What registration writes, frame by frame: the corrected movie in its own type, and the flow that corrected it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from dps_jax import __version__
from dps_jax.io.compressed import compressed_tiff
from dps_jax.io.frames import FrameWriter, Movie, frame_writer

_PARTS_OF_A_PIXEL = 1024


def as_type(image: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return the image in a type, whole numbers rounded and held within what the type can store."""
    if dtype.kind not in "iu" or image.dtype == dtype:
        return np.asarray(image, dtype)
    limits = np.iinfo(dtype)
    # float32 cannot hold the largest of 32-bit numbers.
    exact = image.astype(np.float64) if dtype.itemsize >= 4 else image
    return np.clip(np.rint(exact), limits.min, limits.max).astype(dtype)


def movie_writer(
    movie: Movie, target: Path, dtype: np.dtype[Any], *, method: str, about: dict[str, Any]
) -> AbstractContextManager[FrameWriter]:
    """Return the writer of corrected frames, with the axes and sizes of the movie and what it takes to repeat them."""
    frames, planes, height, width = movie.shape
    axes = movie.axes if "T" in movie.axes else f"T{movie.axes}"
    return frame_writer(
        target,
        shape=(frames, planes, height, width) if len(axes) == 4 else (frames, height, width),
        dtype=np.uint8 if dtype.kind == "b" else dtype,
        axes=axes,
        pixel_size_nm=movie.pixel_size_nm,
        z_step_nm=movie.z_step_nm,
        frame_interval_s=movie.frame_interval_s,
        description={
            "software": f"dps_jax {__version__}",
            "operation": f"register {method}",
            "input": movie.path.name,
            **about,
        },
    )


@contextlib.contextmanager
def flow_writer(movie: Movie, target: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Give a function that writes flows ``(2, y, x)`` one after the other: float32, components dy and dx in px.

    They are rounded to 1/1024 px, far below what any method knows, without which they would hardly compress.
    """
    with compressed_tiff(
        target,
        shape=(movie.shape[0], 2, *movie.shape[2:]),
        axes="TCYX",
        pixel_size_nm=movie.pixel_size_nm,
        frame_interval_s=movie.frame_interval_s,
        description={
            "software": f"dps_jax {__version__}",
            "operation": "flow of register",
            "input": movie.path.name,
            "channels": ["dy", "dx"],
            "unit": "px",
            "rounded_to_px": 1 / _PARTS_OF_A_PIXEL,
            "convention": "corrected(r) = frame(r + flow(r))",
        },
    ) as write:

        def write_flow(flow_px: np.ndarray) -> None:
            for component in np.rint(flow_px * _PARTS_OF_A_PIXEL) / _PARTS_OF_A_PIXEL:
                write(component)

        yield write_flow
