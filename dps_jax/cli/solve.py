"""``dps-jax solve METHOD``: the field's methods, classical and blind, with the file handling of ``restore``."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dps_jax import _checks
from dps_jax.cli import parsing, say
from dps_jax.cli.outputs import made_folder, pair_outputs, run_each
from dps_jax.cli.progress import LateProgress
from dps_jax.io import UserError, check_output

if TYPE_CHECKING:  # these start JAX
    from dps_jax.pipelines.solve_file import SolveOptions

METHODS = (
    "richardson-lucy",
    "richardson-lucy-tv",
    "wiener",
    "tikhonov",
    "sparse-hessian",
    "mssr",
    "rolling-ball",
    "self-deblur",
    "w-dip",
)
BOUNDARIES = ("reflect", "nearest", "wrap", "constant")
_BLIND = ("self-deblur", "w-dip")
_POSITIVE = (
    "na",
    "pixel_size_nm",
    "modulation",
    "refractive_index",
    "noise_to_signal",
    "weight",
    "fidelity",
    "gain",
)

Unset = Annotated[float | None, tyro.conf.arg(help_behavior_hint="")]


@dataclass(frozen=True)
class Arguments:
    """Deconvolve, sharpen or take the background off by one of the field's methods.

    METHOD is one of richardson-lucy, richardson-lucy-tv, wiener, tikhonov, sparse-hessian, mssr, rolling-ball; or,
    where the PSF is not known, self-deblur or w-dip, which fit untrained networks to each plane. All work plane by
    plane on 2D images and stacks.
    """

    words: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="METHOD FILE ...", help_behavior_hint="")
    ] = ()
    """The method, and TIFF files."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], help_behavior_hint="(required)")] = None
    """Result: a .tif file, or a folder, where it is written as NAME_METHOD.tif."""
    na: Annotated[float | None, tyro.conf.arg(help_behavior_hint="(required)")] = None
    """Numerical aperture of the objective."""
    wavelength_nm: Annotated[
        tuple[float, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(help_behavior_hint="(required, repeatable)"),
    ] = ()
    """Emission wavelength in nm, once for all channels; or repeated, once for each channel."""
    pixel_size_nm: Unset = None
    """Pixel size in nm; by default read from the file."""
    modulation: float = 1.0
    """Resolution of the input over widefield: 1 for widefield or confocal, about 2 for linear SIM."""
    refractive_index: float = 1.515
    """Of the immersion medium."""
    factor: int = 2
    """Result pixels per input pixel along each axis (rolling-ball, self-deblur, w-dip: always 1)."""
    psf: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Measured PSF, a TIFF with the result's pixels, no background and its peak in the middle; by default the srPSF."""
    background: Unset = None
    """The constant background level in the image's unit; by default measured."""
    iterations: Annotated[int | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Of richardson-lucy (by default 20), -tv (50), the last stage of sparse-hessian (10), self-deblur and w-dip (2000;
    published with 5000)."""
    accelerated: bool = False
    """Richardson-Lucy with extrapolation (Biggs and Andrews 1997)."""
    until_explained: bool = False
    """Of richardson-lucy: stop at the first step that explains the photons as well as the truth would, which needs no
    truth but the gain; --iterations is then the most (by default 500)."""
    gain: Unset = None
    """Camera units per photon, for --until-explained; by default from the image's mean-variance line."""
    offset: Unset = None
    """Camera value without light, likewise."""
    boundary: str = "reflect"
    """What lies outside the image, of richardson-lucy, -tv, wiener and tikhonov: reflect, nearest, wrap or constant
    (0)."""
    tv_weight: float = 0.005
    """Weight of the total variation in richardson-lucy-tv."""
    noise_to_signal: float = 0.01
    """Of wiener: power of the noise over that of the object."""
    weight: float = 0.01
    """Of tikhonov."""
    fidelity: float = 150.0
    """Of sparse-hessian, for a maximum of 1."""
    sparsity: float = 10.0
    """Of sparse-hessian, for a maximum of 1."""
    order: int = 1
    """Of mssr, 0 or more."""
    radius_nm: float = 3000.0
    """Of the rolling ball."""
    kernel_px: int = 15
    """Of self-deblur and w-dip: side of the kernel to be found, odd, at least as wide as the blur."""
    features: int = 32
    """Of self-deblur and w-dip: width of the image's network (published with 128, for a GPU)."""
    seed: int = 0
    """Of self-deblur and w-dip."""
    kernel: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Of self-deblur and w-dip: TIFF for the kernel that was found."""


def parse(words: list[str]) -> Arguments:
    """Read the command's arguments; options may stand between the method and the files."""
    first = words[:1] if words and not words[0].startswith("-") else []
    arguments = parsing.parse(Arguments, words[len(first) :], command="solve")
    return replace(arguments, words=(*first, *arguments.words))


def run(arguments: Arguments) -> int:
    """Solve every input; return 0, 2 if none could be solved, or 3 if some could not."""
    method, inputs = _method(arguments)
    _check_kernel(arguments, method, inputs)
    targets, folder = pair_outputs(inputs, arguments.output, suffix=method.replace("-", "_"))
    _check_numbers(arguments)
    with made_folder(folder) if folder else contextlib.nullcontext():
        for _, target in targets:
            check_output(target, inputs=[*inputs, *([arguments.psf] if arguments.psf else [])])
        options = _options(arguments, method)
        if len(targets) == 1:
            _solve(options, *targets[0])
            return 0
        return run_each(lambda source, target: _solve(options, source, target), targets, done="solved")


def _method(arguments: Arguments) -> tuple[str, list[Path]]:
    if not arguments.words:
        raise UserError(f"expected a method and a TIFF file, got nothing; methods are {', '.join(METHODS)}.")
    method, *files = arguments.words
    if method not in METHODS:
        raise UserError(f"expected a method among {', '.join(METHODS)}, got {method!r}; name it first.")
    return method, [Path(file) for file in files]


def _check_kernel(arguments: Arguments, method: str, inputs: list[Path]) -> None:
    if method == "w-dip" and arguments.psf is not None:
        raise UserError(
            "expected no --psf with w-dip, which guides the search for one; give it to self-deblur."
        )
    if arguments.kernel is None:
        return
    if method not in _BLIND or arguments.psf is not None:
        raise UserError(
            f"expected --kernel with {' or '.join(_BLIND)} and no --psf: nothing else finds a kernel."
        )
    if arguments.kernel.suffix.lower() not in (".tif", ".tiff"):
        raise UserError(f"expected --kernel to be a .tif file, got {arguments.kernel}.")
    if arguments.kernel == arguments.output:
        raise UserError(f"expected --kernel and -o to be two files, got {arguments.kernel} for both.")
    if len(inputs) > 1:
        raise UserError(
            f"expected one file with --kernel, got {len(inputs)}: it would hold the last kernel only."
        )


def _check_numbers(arguments: Arguments) -> None:
    for name in _POSITIVE:
        value = getattr(arguments, name)
        if value is not None:
            _checks.positive(parsing.flag(name), value)
    for value in arguments.wavelength_nm:
        _checks.positive("--wavelength-nm", value)
    for name in ("tv_weight", "sparsity"):
        _checks.non_negative(parsing.flag(name), getattr(arguments, name))
    _checks.one_of("--boundary", arguments.boundary, BOUNDARIES)
    if arguments.until_explained and arguments.words[0] != "richardson-lucy":
        raise UserError(f"expected --until-explained with richardson-lucy, got it with {arguments.words[0]}.")
    _checks.positive("--radius-nm", arguments.radius_nm)
    _checks.positive_integer("--factor", arguments.factor)
    _checks.positive_integer("--features", arguments.features)
    if arguments.kernel_px < 3 or arguments.kernel_px % 2 == 0:
        raise UserError(f"expected --kernel-px to be odd and 3 or more, got {arguments.kernel_px}.")
    if not 0 <= arguments.seed < 2**32:
        raise UserError(f"expected --seed from 0 to {2**32 - 1}, got {arguments.seed}.")
    if arguments.iterations is not None:
        _checks.positive_integer("--iterations", arguments.iterations)
    if arguments.order < 0:
        raise UserError(f"expected --order to be 0 or more, got {arguments.order}.")


def _options(arguments: Arguments, method: str) -> SolveOptions:
    from dataclasses import fields

    from dps_jax.pipelines.solve_file import SolveOptions
    from dps_jax.pipelines.solve_methods import Settings

    own = {f.name: getattr(arguments, f.name) for f in fields(Settings)}
    shared = {
        f.name: getattr(arguments, f.name)
        for f in fields(SolveOptions)
        if f.name not in ("method", "settings")
    }
    return SolveOptions(**{**shared, "method": method, "settings": Settings(**own)})


def _solve(options: SolveOptions, source: Path, target: Path) -> None:
    from dps_jax.pipelines.solve_file import solve_file

    with LateProgress(f"solving {source.name}") as progress:
        solve_file(source, target, options, log=say, progress=progress)
