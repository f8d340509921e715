"""A file restored tile by tile, from the first look at it to the last byte written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dps_jax.io import UserError, image_writer
from dps_jax.io.images import names_zarr, stored_axes
from dps_jax.io.regions import RegionImage
from dps_jax.io.zarr_write import CHUNKS_PX
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines import chain, photometry
from dps_jax.pipelines.budget import Budget, fit, in_words
from dps_jax.pipelines.file_checks import check_disk, check_light, check_scales
from dps_jax.pipelines.file_planes import OpticsOptions, check_sides, pixel_size, summary, systems_of
from dps_jax.pipelines.plane import PlaneRestorer, Sums, lay_grids
from dps_jax.pipelines.report import Report
from dps_jax.pipelines.stream import (
    Place,
    Planes,
    corrections,
    middle,
    report_of,
    run_share,
    scale_plane,
)
from dps_jax.pipelines.stream_light import Light, bands, find_range, measure_light, value_notes
from dps_jax.weights import Network

Log = Callable[[str], None]
Progress = Callable[[int, int], None]


class StreamOptions(OpticsOptions, Protocol):
    """What a user may say about a restoration, beside the optics; see ``restore_file.FileOptions``."""

    output_pixel_size_nm: float | None
    background_radius_nm: float | None
    background: float | None
    gain: float | None
    offset: float | None
    steady_frames: int
    orientations: int
    adapt: int
    denoise: str
    artefacts: str
    keep_intermediates: bool
    tile_px: int | None


@dataclass(frozen=True, eq=False)
class Job:
    """A file, where its result goes, and how it is cut: one restorer per channel."""

    image: RegionImage
    target: Path
    options: Any
    systems: tuple[OpticalSystem, ...]
    restorers: tuple[PlaneRestorer, ...]
    budget: Budget
    pixel_size_nm: float
    origin: str
    notes: tuple[str, ...]
    disk_bytes: int

    @property
    def streamed(self) -> bool:
        """Whether the image is restored tile by tile."""
        return not self.budget.fits_whole

    @property
    def tiles(self) -> int:
        """Number of tiles of the file."""
        planes = self.image.planes // len(self.restorers)
        return sum(planes * restorer.count() for restorer in self.restorers)


# Runs pieces of a channel, and yields the sums of each in their order.
Runner = Callable[[Job, int, Planes, Sequence[Place], Light], Any]


def plan_job(image: RegionImage, target: Path, options: Any, network: Network, limit: int) -> Job:
    """Look at what a file declares and decide how it is restored; no pixel is read.

    Raises
    ------
    UserError
        For missing or contradictory optics, a limit too small for any tile, a disk too full for the result, or an
        option that needs the whole image in memory where it does not fit.
    """
    size, origin = pixel_size(image, options)
    check_sides(image)
    channels = image.shape[image.axes.index("C")] if "C" in image.axes else 1
    systems = tuple(systems_of(options, size, channels))
    notes = image.notes + check_scales(
        image,
        systems,
        output_pixel_size_nm=options.output_pixel_size_nm,
        background_radius_nm=options.background_radius_nm,
    )
    fitted = []
    for system in systems:
        grids = lay_grids(image.sides, system, network, options.output_pixel_size_nm)
        fitted.append(
            fit(
                image,
                network,
                grids,
                limit,
                tile_px=options.tile_px,
                orientations=options.orientations,
                chunks_px=CHUNKS_PX if names_zarr(target) else (1,),
            )
        )
    restorers = tuple(restorer for restorer, _ in fitted)
    budget = max((budget for _, budget in fitted), key=lambda b: b.tiled)
    out = restorers[0].grids.out
    disk = check_disk(target, image.planes * out[0] * out[1])
    job = Job(image, target, options, systems, restorers, budget, size, origin, notes, disk)
    if job.streamed:
        _refuse_what_needs_all(job)
    return job


def _refuse_what_needs_all(job: Job) -> None:
    """Refuse options that look at the whole image at once."""
    options = job.options
    asked = {
        "--steady-frames": options.steady_frames,
        "--adapt": options.adapt,
        "--denoise strong": options.denoise == "strong",
        "--artefacts auto": options.artefacts == "auto",
        "--keep-intermediates": options.keep_intermediates,
        "--background-radius-nm": options.background_radius_nm is not None,
    }
    for name, given in asked.items():
        if given:
            raise UserError(
                f"{job.image.path} would need {in_words(job.budget.whole)} of memory, more than the limit of "
                f"{in_words(job.budget.limit)}, so it is restored tile by tile, and {name} needs all of it; "
                f"leave {name.split()[0]} out, raise --memory-limit, or crop the image."
            )


def describe_plan(job: Job, *, timed: bool = True) -> list[str]:
    """Return the plan in sentences; with ``timed`` the network is run on one tile to tell how long all will take."""
    image, first = job.image, job.restorers[0]
    out, overlap = first.grids.out, max(axis.halo for axis in first.axes)
    how = "tile by tile, from disk to disk" if job.streamed else "in memory"
    needed = job.budget.tiled if job.streamed else job.budget.whole
    lines = [
        summary(image, job.pixel_size_nm, job.origin),
        *(f"note: {note}" for note in job.notes),
        f"method: {how}, {image.planes} plane(s) of {image.sides[0]}x{image.sides[1]} px to "
        f"{out[0]}x{out[1]} px of {first.grids.pixel_size_nm:.2f} nm",
        f"tiles: {job.tiles}, each {first.sides[0]}x{first.sides[1]} px of 0.4 Abbe periods, {overlap} px of it "
        f"overlap on either side; the network is run on {first.overhead:.2f} times the image's pixels",
        f"memory: about {in_words(needed)} of the limit of {in_words(job.budget.limit)}"
        + (f" (all at once it would be {in_words(job.budget.whole)})" if job.streamed else ""),
        f"disk: {in_words(job.disk_bytes)} for {job.target}",
    ]
    if timed:
        seconds = _seconds_per_tile(first)
        lines.append(f"time: about {_duration(seconds * job.tiles)} ({seconds:.2g} s a tile, measured now)")
    return lines


def _seconds_per_tile(restorer: PlaneRestorer) -> float:
    tile = np.ones(restorer.sides, np.float32)
    restorer.answer(tile)  # compiled first
    started = time.perf_counter()
    restorer.answer(tile)
    return time.perf_counter() - started


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2g} s"


def stream_file(
    job: Job,
    description: Callable[[Job, Sequence[Report], tuple[str, ...]], dict[str, Any]],
    *,
    log: Log = print,
    progress: Progress | None = None,
    runner: Runner | None = None,
) -> None:
    """Restore a file tile by tile; ``description`` says what is stored with the result.

    Raises
    ------
    UserError
        For values that cannot be used, or an output that cannot be written.
    """
    image, options = job.image, job.options
    log(summary(image, job.pixel_size_nm, job.origin))
    log(
        f"tile by tile: {job.tiles} of {job.restorers[0].sides[0]}x{job.restorers[0].sides[1]} px, about "
        f"{in_words(job.budget.tiled)} of memory"
    )
    # Two looks at every band before the first tile.
    steps = 2 * image.planes * sum(1 for _ in bands(image.sides))
    count, done = steps + job.tiles, 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, count)

    found = find_range(image, step=step)
    notes = job.notes + value_notes(image, found)
    for note in notes:
        log(f"note: {note}")
    told: dict[str, Any] = {}
    axes = stored_axes(job.target, image.axes)
    by_axis = dict(zip(image.axes, image.shape, strict=True)) | dict(
        zip("YX", job.restorers[0].grids.out, strict=True)
    )
    with image_writer(
        job.target,
        shape=[by_axis[letter] for letter in axes],
        axes=axes,
        pixel_size_nm=job.restorers[0].grids.pixel_size_nm,
        description=told,
        z_step_nm=image.z_step_nm,
        frame_interval_s=image.frame_interval_s,
        chunk_px=job.restorers[0].align_px if names_zarr(job.target) else None,
    ) as out:
        reports: list[Report] = []
        decisions: list[list[str]] = []
        for channel, places in enumerate(_places(image, axes, job.restorers)):
            light = measure_light(
                image,
                list(dict.fromkeys(place.plane for place in places)),
                found,
                abbe_px=float(job.systems[channel].abbe_px),
                background=options.background,
                step=step,
            )
            reports.append(_channel(job, channel, out, places, light, runner or _here, step))
            prefix = f"channel {channel + 1}: " if len(job.restorers) > 1 else ""
            for note in check_light(image, reports[-1], channel=channel + 1, channels=len(job.restorers)):
                log(f"note: {note}")
                notes += (note,)
            decisions.append(list(_noise_decision(job, channel, middle(image, _middle_plane(places))[0])))
            for line in (*decisions[-1], *reports[-1].in_words()):
                log(f"{prefix}{line}")
        told.update(description(job, reports, notes) | {"decisions": decisions})
    log(f"wrote {job.target}: pixel {job.restorers[0].grids.pixel_size_nm:.2f} nm")


def _middle_plane(places: Sequence[Place]) -> int:
    planes = list(dict.fromkeys(place.plane for place in places))
    return planes[len(planes) // 2]


def _here(job: Job, channel: int, out: Planes, places: Sequence[Place], light: Light) -> Any:
    return run_share(job.restorers[channel], job.image, out, places, light)


def _channel(
    job: Job,
    channel: int,
    out: Planes,
    places: Sequence[Place],
    light: Light,
    runner: Runner,
    step: Callable[[], None],
) -> Report:
    """Restore all planes of a channel, and bring each to the light of the input."""
    restorer, options = job.restorers[channel], job.options
    abbe_px = float(job.systems[channel].abbe_px)
    planes = list(dict.fromkeys((place.plane, place.out_plane) for place in places))
    sums = {plane: Sums() for plane, _ in planes}
    if light.unit > 0:
        for place, added in zip(places, runner(job, channel, out, places, light), strict=True):
            sums[place.plane] += added
            step()
    factors = corrections(light, list(sums.values()), job.image.sides)
    if light.unit > 0:
        for (_, out_plane), factor in zip(planes, factors, strict=True):
            scale_plane(out, out_plane, restorer.grids.out, factor)
    scale = photometry.weigh_light(
        middle(job.image, _middle_plane(places)),
        abbe_px=abbe_px,
        gain=options.gain,
        offset=options.offset,
    )
    return report_of(job.systems[channel], restorer, light, scale, list(sums.values()), factors)


def _places(image: RegionImage, axes: str, restorers: Sequence[PlaneRestorer]) -> list[list[Place]]:
    """Return the pieces of each channel, plane after plane; ``axes`` are those of the output."""
    lead, out_lead = image.axes[:-2], axes[:-2]
    sizes = dict(zip(lead, image.shape, strict=False))
    numbers = np.arange(image.planes).reshape(image.shape[:-2])
    outs = np.arange(image.planes).reshape([sizes[letter] for letter in out_lead])
    outs = outs.transpose([out_lead.index(letter) for letter in lead])
    if "C" in lead:
        numbers, outs = (np.moveaxis(n, lead.index("C"), 0) for n in (numbers, outs))
    pairs = zip(numbers.reshape(len(restorers), -1), outs.reshape(len(restorers), -1), strict=True)
    return [
        [
            Place(int(plane), int(out), piece)
            for plane, out in zip(planes, outputs, strict=True)
            for piece in range(restorer.count())
        ]
        for (planes, outputs), restorer in zip(pairs, restorers, strict=True)
    ]


def _noise_decision(job: Job, channel: int, sample: np.ndarray) -> tuple[str, ...]:
    """Say what ``--denoise auto`` finds; denoising itself needs the image in memory."""
    options = job.options
    _, told = chain.denoising_weight(
        sample, job.systems[channel], options.denoise, options.gain, options.offset
    )
    if told.startswith("denoise on"):
        told = (
            f"denoise off: {told.split(': ', 1)[1].split(';')[0]}, for which --denoise auto would act, but the "
            "image is restored tile by tile; raise --memory-limit or crop it"
        )
    return (told,) if told else ()
