"""Restore a file: read, check, restore every plane, write with everything needed to repeat it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dps_jax import __version__
from dps_jax.io import UserError, check_output, open_image
from dps_jax.pipelines.adapt import Adaptation, adapt
from dps_jax.pipelines.budget import default_limit
from dps_jax.pipelines.chain import Chained, run_chain
from dps_jax.pipelines.file_checks import check_light, check_scales
from dps_jax.pipelines.file_planes import FilePlanes, read_planes
from dps_jax.pipelines.report import Report
from dps_jax.pipelines.restore import Progress
from dps_jax.pipelines.stream_file import Job, Runner, plan_job, stream_file
from dps_jax.weights import Network

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What a user may say about a file; None or empty leaves it to the file or to measurement."""

    na: float | None = None
    wavelength_nm: tuple[float, ...] = ()
    pixel_size_nm: float | None = None
    modulation: float = 1.0
    refractive_index: float = 1.515
    output_pixel_size_nm: float | None = None
    background_radius_nm: float | None = None
    background: float | None = None
    gain: float | None = None
    offset: float | None = None
    steady_frames: int = 0
    orientations: int = 1
    adapt: int = 0
    denoise: str = "auto"
    artefacts: str = "off"
    keep_intermediates: bool = False
    tile_px: int | None = None


def restore_file(
    source: Path,
    target: Path,
    options: FileOptions,
    network: Network,
    *,
    limit: int | None = None,
    log: Log = print,
    progress: Progress | None = None,
    runner: Runner | None = None,
) -> None:
    """Restore ``source`` into ``target``, each a TIFF or an OME-Zarr; the result appears whole or not at all.

    An image that does not fit into ``limit`` bytes of memory (by default half of what is free) is restored tile by
    tile from disk to disk, by ``runner`` if one is given.

    Raises
    ------
    UserError
        For a file that cannot be read or used, missing optics, or an output that cannot be written.
    ValueError
        For physics out of range; see :class:`OpticalSystem` and :func:`restore`.
    """
    with planned(source, target, options, network, limit=limit) as job:
        if job.streamed or runner is not None:

            def describe(job: Job, reports: Sequence[Report], notes: tuple[str, ...]) -> dict[str, Any]:
                return _description(source, job.pixel_size_nm, job.origin, options, network, reports, notes)

            stream_file(job, describe, log=log, progress=progress, runner=runner)
            return
        # Of the largest tiles that fit; recorded with the result only where the user chose them.
        tile_px = job.restorers[0].tile_px
    _in_memory(source, target, options, network, tile_px, log, progress)


@contextlib.contextmanager
def planned(
    source: Path, target: Path, options: FileOptions, network: Network, *, limit: int | None = None
) -> Iterator[Job]:
    """Open a file and decide how it is restored; see :func:`dps_jax.pipelines.stream_file.plan_job`."""
    check_output(target, inputs=[source])
    with open_image(source) as image:
        yield plan_job(image, target, options, network, default_limit() if limit is None else limit)


def _in_memory(
    source: Path,
    target: Path,
    options: FileOptions,
    network: Network,
    tile_px: int,
    log: Log,
    progress: Progress | None,
) -> None:
    planes = read_planes(source, target, options)
    log(planes.summary)
    image, notes = planes.image, planes.notes
    if options.steady_frames and ("T" not in image.axes or "Z" in image.axes):
        raise UserError(
            f"--steady-frames needs a movie (axes TYX or TCYX), got axes {image.axes} in {image.path}."
        )
    notes += check_scales(
        image,
        planes.systems,
        output_pixel_size_nm=options.output_pixel_size_nm,
        background_radius_nm=options.background_radius_nm,
    )
    for note in notes:
        log(f"note: {note}")
    count = len(planes.channels)
    chained: list[Chained] = []
    adaptations = []
    for number, (stack, system) in enumerate(zip(planes.channels, planes.systems, strict=True)):
        prefix = f"channel {number + 1}: " if count > 1 else ""
        used = network
        if options.adapt:
            used, told = adapt(
                network,
                stack,
                system,
                iterations=options.adapt,
                gain=options.gain,
                offset=options.offset,
                background=options.background,
                progress=progress,
            )
            adaptations.append(asdict(told))
            log(f"{prefix}{_adapted(told)}")
        chain = run_chain(
            stack,
            system,
            used,
            denoising=options.denoise,
            artefacts=options.artefacts,
            output_pixel_size_nm=options.output_pixel_size_nm,
            background_radius_nm=options.background_radius_nm,
            background=options.background,
            gain=options.gain,
            offset=options.offset,
            steady_frames=options.steady_frames,
            orientations=options.orientations,
            tile_px=tile_px,
            progress=_shifted(progress, number, count),
        )
        for note in check_light(image, chain.restored.report, channel=number + 1, channels=count):
            log(f"note: {note}")
            notes += (note,)
        for decision in chain.decisions:
            log(f"{prefix}{decision}")
        for note in chain.notes:
            log(f"{prefix}note: {note}")
        for line in chain.restored.report.in_words():
            log(f"{prefix}{line}")
        chained.append(chain)
    restored = [chain.restored for chain in chained]
    planes.write(
        target,
        [r.image for r in restored],
        pixel_size_nm=restored[0].pixel_size_nm,
        description=_description(
            source,
            planes.pixel_size_nm,
            planes.origin,
            options,
            network,
            [r.report for r in restored],
            notes,
        )
        | {"decisions": [list(chain.decisions) for chain in chained]}
        | ({"adaptations": adaptations} if adaptations else {}),
    )
    if options.keep_intermediates:
        _keep(planes, chained, target, log)
    log(f"wrote {target}: pixel {restored[0].pixel_size_nm:.2f} nm")


def _keep(planes: FilePlanes, chained: list[Chained], target: Path, log: Log) -> None:
    """Write every image between input and result; a channel that skipped a step is there as it came."""
    for name in sorted({name for chain in chained for name in chain.intermediates}):
        path = target.with_name(f"{target.stem}_{name}.tif")
        images = [
            chain.intermediates.get(name, stack)
            for chain, stack in zip(chained, planes.channels, strict=True)
        ]
        planes.write(
            path,
            images,
            pixel_size_nm=planes.pixel_size_nm,
            description={
                "software": f"dps_jax {__version__}",
                "operation": f"restore, {name}",
                "input": planes.image.path.name,
            },
        )
        log(f"wrote {path}")


def _shifted(progress: Progress | None, number: int, count: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, count * total)


def _adapted(told: Adaptation) -> str:
    verdict = "the adapted network is used" if told.kept else "no better, so the weights are used as they are"
    return (
        f"adapted by {told.steps} steps: objective on other splits of the photons {told.before:.5g} before, "
        f"{told.after:.5g} after; error of photons not shown {told.unseen_before:.5g} before, "
        f"{told.unseen_after:.5g} after ({told.certainty:.1f} standard errors less); {verdict}"
    )


def _description(
    source: Path,
    pixel_size_nm: float,
    origin: str,
    options: FileOptions,
    network: Network,
    reports: Sequence[Report],
    notes: tuple[str, ...],
) -> dict[str, Any]:
    """Return what is stored with the result, so that it can be repeated and judged."""
    return {
        "software": f"dps_jax {__version__}",
        "operation": "restore",
        "input": source.name,
        "settings": {k: v for k, v in asdict(options).items() if v is not None},
        "input_pixel_size_nm": pixel_size_nm,
        "input_pixel_size_origin": origin,
        "weights_sha256": network.sha256,
        "weights_version": network.header.get("package_version", ""),
        "intensity": "photon-conserving: the sum over pixels is that of the input above background",
        "notes": list(notes),
        "checks": [report.as_dict() for report in reports],
    }
