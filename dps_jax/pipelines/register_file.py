"""Correct the motion of a movie file: template, then frame by frame, in memory that does not grow with the movie."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import __version__
from dps_jax.io import UserError, atomic_path, check_output, read_image
from dps_jax.io.frames import Movie, open_movie
from dps_jax.io.integrity import check_memory
from dps_jax.pipelines import register, register_template
from dps_jax.pipelines.flow_choice import rivalry
from dps_jax.pipelines.flow_network import FlowNetwork, flow_network
from dps_jax.pipelines.flow_refine import refined_network
from dps_jax.pipelines.parallel import in_order
from dps_jax.pipelines.register import RegisterSettings
from dps_jax.pipelines.register_batch import Corrected, correct_batch
from dps_jax.pipelines.register_figure import draw_registration
from dps_jax.pipelines.register_report import Tally
from dps_jax.pipelines.register_template import Template
from dps_jax.pipelines.register_write import as_type, flow_writer, movie_writer
from dps_jax.weights import load_network

METHODS = ("auto", *register.METHODS, "flow")
# Frames from which the template is made, and the memory that they may take.
_SAMPLED, _SAMPLED_BYTES = 100, 2**28

Log = Callable[[str], None]
Progress = Callable[[float, float, str], None]


@dataclass(frozen=True, kw_only=True)
class RegisterOptions:
    """What a user may say.

    ``reference`` is ``"mean"``, ``"frame:K"`` or the name of a TIFF; frames and channels are counted from 1.
    ``output_type`` is ``"input"`` or ``"float32"``. ``weights`` are those of a flow network, by default the released
    ones, which are trained on for ``refine_steps`` steps on the movie itself.
    """

    method: str = "auto"
    reference: str = "mean"
    channel: int | None = None
    output_type: str = "input"
    save_flow: Path | None = None
    figure: Path | None = None
    json: Path | None = None
    weights: Path | None = None
    refine_steps: int = 0
    settings: RegisterSettings = field(default_factory=RegisterSettings)


def register_file(
    source: Path,
    target: Path,
    options: RegisterOptions,
    *,
    log: Log = print,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Register the movie ``source`` into the TIFF ``target``, which appears whole or not at all; return the report.

    Planes of z move together, as their mean does; channels move as the one does that is chosen. Frames with values
    that are not finite are written as they are.

    Raises
    ------
    UserError
        For a movie that cannot be read or used, or an output that cannot be written.
    ValueError
        For numbers out of range.
    """
    given = [options.weights, None if _is_place(options.reference) else Path(options.reference)]
    sources = [source, *(path for path in given if path is not None)]
    for path in (target, options.save_flow, options.figure, options.json):
        if path is not None:
            check_output(path, inputs=sources)
    with open_movie(source) as movie:
        channel, notes = _channel(movie, options.channel)
        log(f"{source.name}: {movie.shape[0]} frames, {movie.axes}, {movie.dtype}")
        started = time.perf_counter()
        template, method, network, about = _prepared(movie, options, channel, progress=progress)
        for note in (*movie.notes, *notes):
            log(f"note: {note}")
        log(_decision(method, about, options))
        tally = Tally(movie.shape, template.image)
        _stream(
            movie,
            target,
            options,
            template,
            method=method,
            network=network,
            channel=channel,
            tally=tally,
            progress=progress,
        )
        seconds = time.perf_counter() - started
    report = {
        "software": f"dps_jax {__version__}",
        "input": source.name,
        "method": method,
        **about,
        "notes": [*movie.notes, *notes, *tally.notes],
        **tally.report(),
    }
    for note in tally.notes:
        log(f"note: {note}")
    if options.figure is not None:
        draw_registration(options.figure, tally, method=method)
    if options.json is not None:
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")
    log(_summary(report))
    log(f"wrote {target}: {movie.shape[0] / seconds:.3g} frames/s, template included")
    return report


def _channel(movie: Movie, chosen: int | None) -> tuple[int | None, tuple[str, ...]]:
    """Return the plane that motion is looked for in, None for the mean of all."""
    planes = movie.shape[1]
    if "C" not in movie.axes:
        if chosen is not None:
            raise UserError(
                f"expected --channel with a movie of several channels, got the axes {movie.axes}."
            )
        note = f"motion is found in the mean of the {planes} z planes, which move together"
        return (None, (note,)) if planes > 1 else (0, ())
    if chosen is None:
        return 0, ("motion is found in channel 1; choose another with --channel",)
    if not 1 <= chosen <= planes:
        raise UserError(f"expected --channel from 1 to {planes}, got {chosen}.")
    return chosen - 1, ()


def _prepared(
    movie: Movie, options: RegisterOptions, channel: int | None, *, progress: Progress | None
) -> tuple[Template, str, FlowNetwork | None, dict[str, Any]]:
    """Return the template, the method, the network if it is that, and what was found out on the way."""
    first = _reference(movie, options.reference, channel)
    given = not _is_place(options.reference)
    if movie.shape[0] < 2 and not given:
        raise UserError(
            f"{movie.path} holds one frame, but motion is found between frames; give a movie, or a "
            "--reference file."
        )
    sample = _sample(movie, channel)
    settings = options.settings
    if given and first is not None:
        template = Template(first, np.ones(len(sample), bool))
    else:
        template = register_template.build_template(sample, settings=settings, first=first)
    method = options.method
    about: dict[str, Any] = {
        "reference": options.reference,
        "settings": asdict(settings),
        "template_frames": 0 if given else int(template.kept.sum()),
    }
    if method == "auto":
        found = register_template.agreement(sample, template, settings=settings)
        method = "patches" if found.patches_help else "rigid"
        about["deviation"] = asdict(found)
    network = None
    if options.method == "flow" or (options.method == "auto" and method == "patches"):
        network, told = _network(options, sample, template, progress)
        about |= told
    if options.method == "auto" and method == "patches" and network is not None:
        rivals = rivalry(sample, template, network, settings=settings)
        method = "flow" if rivals.network_is_nearer else "patches"
        about["distance_from_the_other_half"] = asdict(rivals)
    network = network if method == "flow" else None
    if method != "rigid" and not given:
        template = register_template.refine_template(
            sample, template, settings=settings, method=method, centred=first is None, network=network
        )
    return template, method, network, about


def _network(
    options: RegisterOptions, sample: np.ndarray, template: Template, progress: Progress | None
) -> tuple[FlowNetwork, dict[str, Any]]:
    """Return the network, refined where that was asked for, and what came of that."""
    network = flow_network(load_network(path=options.weights, task="flow"))
    if not options.refine_steps:
        return network, {}

    def step_done(done: int, steps: int) -> None:
        if progress is not None:
            progress(done, steps, "refining the network")

    refined, told = refined_network(
        network,
        sample,
        template,
        iterations=options.refine_steps,
        settings=options.settings,
        progress=step_done,
    )
    return (refined if told.kept else network), {"refinement": asdict(told)}


def _is_place(reference: str) -> bool:
    """Tell a place in the movie from the name of a file."""
    return reference == "mean" or reference.startswith("frame:")


def _reference(movie: Movie, reference: str, channel: int | None) -> np.ndarray | None:
    """Return the image that was named, None for the mean."""
    if reference == "mean":
        return None
    if reference.startswith("frame:"):
        number = reference.removeprefix("frame:")
        if not number.isdigit() or not 1 <= int(number) <= movie.shape[0]:
            raise UserError(
                f"expected --reference frame:K with K from 1 to {movie.shape[0]}, got {reference!r}."
            )
        image = _seen(movie.frame(int(number) - 1), channel)
    else:
        data = read_image(reference).data
        if data.ndim > 2 and data.shape[:-2] == (movie.shape[1],):
            data = _seen(data, channel)
        if data.shape != movie.shape[2:]:
            raise UserError(
                f"expected a reference of {movie.shape[2]}x{movie.shape[3]} px, as the frames are, got shape "
                f"{data.shape} in {reference}."
            )
        image = np.asarray(data, np.float32)
    if not np.isfinite(image).all() or image.min() == image.max():
        raise UserError(
            f"expected a reference with contrast and without NaN, got {reference}; choose another."
        )
    return image


def _sample(movie: Movie, channel: int | None) -> np.ndarray:
    """Read frames spread over the movie, ``(t, y, x)``, without those that are not finite or flat."""
    frames, _, height, width = movie.shape
    count = min(frames, _SAMPLED, max(10, _SAMPLED_BYTES // (4 * height * width)))
    check_memory(movie.path, 2 * 4 * count * height * width, None)  # the sample, and the same registered
    places = np.unique(np.linspace(0, frames - 1, count).round().astype(int))
    images = [_seen(movie.frame(int(i)), channel) for i in places]
    good = [image for image in images if np.isfinite(image).all() and image.min() < image.max()]
    if 2 * len(good) < len(images) or not good:
        raise UserError(
            f"{movie.path} has NaN, infinite or equal values all over {len(images) - len(good)} of {len(images)} "
            "frames that were looked at; replace the values, or crop the movie."
        )
    return np.stack(good)


def _stream(
    movie: Movie,
    target: Path,
    options: RegisterOptions,
    template: Template,
    *,
    method: str,
    network: FlowNetwork | None,
    channel: int | None,
    tally: Tally,
    progress: Progress | None,
) -> None:
    """Correct and write every frame: reading and writing here, the rest on as many threads as there are cores."""
    frames = movie.shape[0]
    dtype = movie.dtype.newbyteorder("=") if options.output_type == "input" else np.dtype(np.float32)
    size = register_template.batch_size(movie.shape[1:])
    image = jnp.asarray(template.image)
    started = time.perf_counter()

    def corrected(batch: tuple[int, np.ndarray]) -> tuple[int, np.ndarray, Corrected]:
        start, raw = batch
        done = correct_batch(
            register_template.filled_up(raw, size),
            image,
            method=method,
            settings=options.settings,
            count=len(raw),
            channel=channel,
            dtype=dtype,
            with_flow=options.save_flow is not None,
            network=network,
        )
        return start, raw, jax.block_until_ready(done)

    with contextlib.ExitStack() as stack:
        about = {"reference": Path(options.reference).name, "settings": asdict(options.settings)}
        write = stack.enter_context(movie_writer(movie, target, dtype, method=method, about=about))
        flow_path = options.save_flow
        write_flow = stack.enter_context(flow_writer(movie, flow_path)) if flow_path else None
        for start, raw, batch in in_order(corrected, _batches(movie, size)):
            moved, good = np.asarray(batch.frames), np.asarray(batch.measures.good)
            flow = np.asarray(batch.flow)
            for offset, frame in enumerate(raw):
                result = moved[offset] if good[offset] else frame
                write(start + offset, as_type(result, dtype))
                if write_flow is not None:
                    write_flow(flow[offset])
                if good[offset] and tally.wants(start + offset):
                    tally.keep(start + offset, _seen(frame, channel), _seen(result, channel))
            tally.add(start, batch.measures, len(raw))
            done = start + len(raw)
            if progress is not None:
                progress(done, frames, f"{done / (time.perf_counter() - started):.3g} frames/s")


def _seen(frame: np.ndarray, channel: int | None) -> np.ndarray:
    """Return the image ``(y, x)`` of a frame ``(plane, y, x)`` in which motion is looked for, float32."""
    return np.asarray(frame.mean(0) if channel is None else frame[channel], np.float32)


def _batches(movie: Movie, size: int) -> Iterator[tuple[int, np.ndarray]]:
    frames = movie.shape[0]
    for start in range(0, frames, size):
        yield start, np.stack([movie.frame(i) for i in range(start, min(start + size, frames))])


def _decision(method: str, about: dict[str, Any], options: RegisterOptions) -> str:
    found = about.get("deviation")
    frames = about["template_frames"]
    kept = f"template of {frames} frames" if frames else f"template {options.reference}"
    refinement = about.get("refinement")
    refined = (
        f"network refined on {refinement['photons']:.3g} photons a bright pixel: distance from the other half of the "
        f"pixels {refinement['before_px']:.3f} -> {refinement['after_px']:.3f} px, "
        f"{'kept' if refinement['kept'] else 'not kept'}; "
        if refinement
        else ""
    )
    if found is None:
        return f"{refined}{method}: {kept}"
    rivals = about.get("distance_from_the_other_half")
    compared = (
        f"; what patches find in one half, patches in the other miss by {rivals['patches_px']:.2f} px and the network "
        f"by {rivals['network_px']:.2f} px"
        if rivals
        else ""
    )
    return refined + (
        f"{method}: {kept}; of the deviations from a rigid shift, {found['common_px']:.2f} px are found alike in "
        f"both halves of the pixels and {found['apart_px']:.2f} px are noise{compared}"
    )


def _summary(report: dict[str, Any]) -> str:
    before, after = report["before"], report["after"]
    return (
        f"before -> after: correlation with the template {before['correlation']:.3f} -> {after['correlation']:.3f}, "
        f"crispness of the mean {before['crispness']:.4g} -> {after['crispness']:.4g}, "
        f"residual motion {before['residual_motion_px']:.2f} -> {after['residual_motion_px']:.2f} px, "
        f"folded {after['folding_fraction']:.2%}"
    )
