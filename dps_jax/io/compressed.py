"""A compressed TIFF written plane by plane, in order, which is no TIFF before it is finished."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tifffile

from .atomic import atomic_path, check_output
from .contiguous import Headless
from .write import _CLASSIC_LIMIT, SETTINGS, _bigtiff_options, plain_json

PlaneWriter = Callable[[np.ndarray], None]


@contextlib.contextmanager
def compressed_tiff(
    path: str | os.PathLike[str],
    *,
    shape: Sequence[int],
    axes: str,
    description: Mapping[str, Any],
    pixel_size_nm: float | None = None,
    frame_interval_s: float | None = None,
) -> Iterator[PlaneWriter]:
    """Give a function ``write(plane)`` for the planes ``(y, x)`` of a float32 TIFF, in their order; it appears whole.

    Deflate at its fastest, without a predictor, which ImageJ reads; a BigTIFF where the pixels alone would need one.
    Axes, sizes and ``description`` are JSON in the file's description.

    Raises
    ------
    UserError
        Where the file cannot be written.
    """
    check_output(path)
    settings = {SETTINGS: dict(description)}
    plain_json(settings)
    options = _bigtiff_options(axes, pixel_size_nm, None, frame_interval_s, settings)
    text: str | None = json.dumps({"shape": list(shape), **options.pop("metadata")})
    # What does not shrink grows by a few bytes in a thousand.
    big = 1.1 * 4 * int(np.prod(shape, dtype=object)) > _CLASSIC_LIMIT
    del options["bigtiff"]
    with atomic_path(path) as temporary, Headless(temporary) as out:
        with tifffile.TiffWriter(out, byteorder="<", ome=False, bigtiff=big) as tiff:

            def write(plane: np.ndarray) -> None:
                nonlocal text
                tiff.write(
                    np.ascontiguousarray(plane, np.float32),
                    photometric="minisblack",
                    software="dps_jax",
                    compression="zlib",
                    compressionargs={"level": 1},
                    # The first page tells of all: they are one series.
                    description=text,
                    metadata=None,
                    **options,
                )
                text = None

            yield write
        out.finish()
