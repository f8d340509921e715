"""Work on an existing Dask cluster: the files of a batch, or the tiles of one large image.

Scheduler, workers and this program see the same files under the same names (a shared disk). A task only ever writes
blocks, or files, that no other task writes, and writes the same bytes again if it is run again: a worker may die at
any time, and its tasks go to the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dps_jax.cli import configure_jax
from dps_jax.cli.batch import Outcome, attempt
from dps_jax.io import UserError

if TYPE_CHECKING:  # these start JAX
    from dps_jax.pipelines.plane import Sums
    from dps_jax.pipelines.restore_file import FileOptions
    from dps_jax.pipelines.stream import Place, Planes
    from dps_jax.pipelines.stream_file import Job
    from dps_jax.pipelines.stream_light import Light
    from dps_jax.weights import Network

_MISSING = "--scheduler needs Dask, which is not installed: pip install 'dps-jax[cluster]'."
_PATIENCE_S = 20.0
# Pieces of one task: one is read while another is computed, and no more are lost with a worker.
_PER_TASK = 4


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Give a client of the scheduler at ``address``.

    Raises
    ------
    UserError
        Where Dask is not installed, nobody answers, or workers die again and again.
    """
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise UserError(_MISSING) from None
    try:
        client = Client(address, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as problem:
        raise UserError(
            f"no Dask scheduler answers at {address} ({' '.join(str(problem).split())[:120] or 'timed out'}); "
            "start one with `dask scheduler`, and give the address that it prints with --scheduler."
        ) from None
    try:
        yield client
    except KilledWorker as problem:
        raise UserError(
            f"a task was given up after several workers had died with it ({str(problem)[:120]}); look at the workers' "
            "logs: too little memory is the usual cause, for which --memory-limit is a help."
        ) from None
    finally:
        client.close()


def run_files(
    client: Any, todo: Sequence[Outcome], options: FileOptions, weights: Path | None, limit: int | None
) -> Iterator[Outcome]:
    """Restore whole files on the workers; in their order."""
    weights = None if weights is None else weights.resolve()
    futures = [
        client.submit(
            _one_file, one.source.resolve(), one.target.resolve(), options, weights, limit, pure=False
        )
        for one in todo
    ]
    for one, future in zip(todo, futures, strict=True):
        one.lines[:], one.problem = future.result()
        yield one


def _one_file(
    source: Path, target: Path, options: FileOptions, weights: Path | None, limit: int | None
) -> tuple[list[str], str]:
    """Restore one file, on a worker; return its log and its problem."""
    configure_jax()
    from dps_jax.pipelines.restore_file import restore_file

    def work(one: Outcome) -> None:
        restore_file(source, target, options, _network(weights), limit=limit, log=one.lines.append)

    done = attempt(work, Outcome(source, target))
    return done.lines, done.problem


class TileRunner:
    """Runs the pieces of a job on the workers; what ``stream_file`` takes as its runner."""

    def __init__(self, client: Any, weights: Path | None) -> None:
        self.client, self.weights = client, None if weights is None else weights.resolve()

    def __call__(
        self, job: Job, channel: int, out: Planes, places: Sequence[Place], light: Light
    ) -> Iterator[Sums]:
        """Yield the sums of each piece in their order."""
        restorer = job.restorers[channel]
        folder = Path(getattr(out, "folder", "")).resolve()
        shared = (
            job.image.path.resolve(),
            folder,
            job.systems[channel],
            job.options.output_pixel_size_nm,
            (restorer.tile_px, restorer.align_px, restorer.orientations),
            self.weights,
            light,
        )
        shares = [places[k : k + _PER_TASK] for k in range(0, len(places), _PER_TASK)]
        futures = [self.client.submit(_one_share, share, *shared, pure=False) for share in shares]
        try:
            for future in futures:
                yield from future.result()
        finally:
            self.client.cancel(futures)


def _one_share(
    places: Sequence[Place],
    source: Path,
    folder: Path,
    system: Any,
    output_pixel_size_nm: float | None,
    cut: tuple[int, int, int],
    weights: Path | None,
    light: Light,
) -> list[Sums]:
    """Restore some pieces of a file, on a worker, into the OME-Zarr that is being made."""
    configure_jax()
    from dps_jax.io import open_image
    from dps_jax.io.zarr_write import open_planes
    from dps_jax.pipelines.plane import PlaneRestorer, lay_grids
    from dps_jax.pipelines.stream import run_share

    network = _network(weights)
    tile_px, align_px, orientations = cut
    with open_image(source) as image:
        grids = lay_grids(image.sides, system, network, output_pixel_size_nm)
        restorer = PlaneRestorer(
            network, grids, tile_px=tile_px, orientations=orientations, align_px=align_px
        )
        return list(run_share(restorer, image, open_planes(folder), places, light))


@lru_cache(maxsize=2)
def _network(weights: Path | None) -> Network:
    from dps_jax.weights import load_network

    return load_network(path=weights)
