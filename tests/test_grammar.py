"""The house rules of the public API: docstrings, keyword-only defaults, keys first, units in names, one-way imports."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dps_jax

ROOT = Path(dps_jax.__file__).parent

# Everything that these packages name in ``__all__`` is public; of the others, every module's own public names.
LISTED = ("optics", "operators", "losses", "metrics", "synthetic", "models", "solvers", "io")
WALKED = ("training", "pipelines", "weights")

# A package imports only from those before it. ``io`` needs no jax, so that the command line starts at once, and
# may be used by all; weights are networks with their parameters, which training writes and pipelines use.
ORDER = (
    *("io", "optics", "operators", "losses", "metrics", "synthetic", "models", "solvers"),
    *("weights", "training", "pipelines", "cli"),
)
EVERYBODY_S = {"_checks", "typing", "__version__"}

# ``sigma`` of the Hessian of a movie or volume is the published name of a weight, not a length.
NO_LENGTHS = {("hessian_xyt", "sigma"), ("hessian_xyz", "sigma")}
# Fields that flax adds to every module.
FOREIGN = {"parent", "name"}

MEASURES = ("wavelength", "pixel_size", "shift", "sigma", "radius")
# ``_photons`` is the unit of read noise.
UNITS = ("_nm", "_px", "_photons")


def _own(thing):
    return getattr(thing, "__module__", "").startswith("dps_jax")


def _public_names():
    """Yield (qualified name, object) of what a user may import."""
    for package in LISTED:
        module = importlib.import_module(f"dps_jax.{package}")
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.ismodule(thing):
                yield from _names_of_module(thing)
            else:
                yield f"{package}.{name}", thing
    for package in WALKED:
        parent = importlib.import_module(f"dps_jax.{package}")
        yield from _names_of_module(parent)
        for info in pkgutil.iter_modules(parent.__path__):
            if not info.name.startswith("_"):
                yield from _names_of_module(importlib.import_module(f"{parent.__name__}.{info.name}"))


def _names_of_module(module):
    for name, thing in vars(module).items():
        if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__:
            yield f"{module.__name__.removeprefix('dps_jax.')}.{name}", thing


def _methods(name, kind):
    for key, member in vars(kind).items():
        function = getattr(member, "__func__", getattr(member, "fget", member))
        written = inspect.isfunction(function) and _own(function)
        generated = dataclasses.is_dataclass(kind) and key.startswith("__") and key != "__call__"
        if written and not generated and (not key.startswith("_") or key in ("__init__", "__call__")):
            yield f"{name}.{key}", function


PUBLIC = {name: thing for name, thing in _public_names() if callable(thing) and _own(thing)}
CLASSES = {name: thing for name, thing in PUBLIC.items() if inspect.isclass(thing)}
FUNCTIONS = {name: thing for name, thing in PUBLIC.items() if not inspect.isclass(thing)}
FUNCTIONS |= {name: method for owner, kind in CLASSES.items() for name, method in _methods(owner, kind)}
EVERY_FUNCTION = pytest.mark.parametrize("name", sorted(FUNCTIONS))


def _parameters(name):
    parameters = list(inspect.signature(FUNCTIONS[name]).parameters.values())
    return [p for p in parameters if p.name not in ("self", "cls")]


def _fields(kind):
    """Names that a dataclass is made from."""
    return [f.name for f in dataclasses.fields(kind) if f.init] if dataclasses.is_dataclass(kind) else []


def test_the_walk_finds_the_public_api():
    # A walk that finds nothing proves nothing.
    for name in ("optics.jinc", "operators.convolve", "losses.objective", "models.build", "io.read_image"):
        assert name in FUNCTIONS
    assert "synthetic.structures.scene" in FUNCTIONS
    assert "training.steps.make_step" in FUNCTIONS
    assert "optics.OpticalSystem" in CLASSES
    assert "models.ResUDBPN.__call__" in FUNCTIONS
    assert {name.split(".")[0] for name in FUNCTIONS} == {*LISTED, *WALKED}


@pytest.mark.parametrize("package", LISTED)
def test_all_is_sorted_and_true(package):
    module = importlib.import_module(f"dps_jax.{package}")
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_names_have_docstrings(name):
    doc = inspect.getdoc(PUBLIC[name]) or ""
    # A dataclass without one is given its signature by Python.
    assert doc
    assert not doc.startswith(f"{name.split('.')[-1]}(")


@EVERY_FUNCTION
def test_functions_have_docstrings(name):
    if not name.endswith("__init__"):  # described by its class
        assert inspect.getdoc(FUNCTIONS[name])


@EVERY_FUNCTION
def test_defaults_are_keyword_only(name):
    breaches = [
        p.name for p in _parameters(name) if p.default is not p.empty and p.kind is not p.KEYWORD_ONLY
    ]
    assert not breaches


@EVERY_FUNCTION
def test_random_key_comes_first(name):
    names = [p.name for p in _parameters(name)]
    for source in {"key", "rng"} & set(names):
        assert names[0] == source


def _named_things():
    for name in FUNCTIONS:
        yield from ((name, p.name) for p in _parameters(name))
    for name, kind in CLASSES.items():
        yield from ((name, field) for field in _fields(kind) if field not in FOREIGN)


def test_no_greek_letters_in_signatures():
    assert not [named for named in _named_things() if re.search("[\u0370-\u03ff\u00b5]", named[1])]


def test_a_width_is_never_called_sigma():
    assert not [named for named in _named_things() if "sigma" in named[1] and "fwhm" in named[1]]


def test_measures_carry_their_unit():
    breaches = [
        (owner, name)
        for owner, name in _named_things()
        if name.startswith(MEASURES)
        and not name.endswith(UNITS)
        and (owner.split(".")[-1], name) not in NO_LENGTHS
    ]
    assert not breaches


def _loaded_by(statement):
    code = f"{statement}; import sys; print(*sys.modules)"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"jax", "flax", "optax", "numpy", "scipy", "tifffile", "orbax", "rich", "tyro", "matplotlib"}
    loaded = _loaded_by("import dps_jax")
    assert not loaded & heavy
    assert not [name for name in loaded if name.startswith("dps_jax.")]


def test_files_and_scenes_need_no_jax():
    loaded = _loaded_by(
        "import dps_jax.io, dps_jax.io.parameters, dps_jax.synthetic, dps_jax.training.config"
    )
    assert "dps_jax.io.tiff" in loaded
    assert not loaded & {"jax", "flax", "optax", "orbax"}


MODULES = sorted(ROOT.rglob("*.py"))
EVERY_MODULE = pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))


def _imports(path):
    """Yield the full dotted names that a module imports, wherever in it, relative ones resolved."""
    package = ["dps_jax", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = [*base, *(node.module or "").split(".")] if node.module else base
            yield from (".".join([*prefix, alias.name]) for alias in node.names)


def _package_of(path):
    parts = path.relative_to(ROOT).parts
    return parts[0].removesuffix(".py")


@EVERY_MODULE
def test_imports_go_one_way(path):
    package = _package_of(path)
    inner = (
        {name.split(".")[1] for name in _imports(path) if name.startswith("dps_jax.")}
        - EVERYBODY_S
        - {package}
    )
    if package in {"__init__", "_checks", "typing"}:
        assert not inner
        return
    assert not inner - set(ORDER[: ORDER.index(package)])


def test_the_import_reader_sees_every_form(tmp_path):
    # On a module of this package's place, so that relative names can be resolved.
    here = ROOT / "pipelines" / "imagined.py"
    source = (
        "import jax.numpy as jnp\nfrom .. import io\nfrom .tiling import Tile\nfrom dps_jax.cli import say\n"
    )
    source += "def f():\n    from dps_jax import weights\n"

    class Imagined(type(here)):
        def read_text(self, *args, **kwargs):
            return source

    expected = {
        "jax.numpy",
        "dps_jax.io",
        "dps_jax.pipelines.tiling.Tile",
        "dps_jax.cli.say",
        "dps_jax.weights",
    }
    assert set(_imports(Imagined(here))) == expected


def test_every_package_has_its_place():
    packages = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert packages <= set(ORDER)


@EVERY_MODULE
def test_only_models_know_flax_and_only_training_optax(path):
    roots = {name.split(".")[0] for name in _imports(path)}
    if _package_of(path) != "models":
        assert "flax" not in roots
    if _package_of(path) != "training":
        assert not roots & {"optax", "orbax"}


@EVERY_MODULE
def test_jit_is_at_the_edges(path):
    relative = path.relative_to(ROOT).as_posix()
    if relative in (
        "training/steps.py",
        "training/data.py",
        "training/flow_data.py",
        "training/scale_transfer.py",
        "training/sim_data.py",
        "training/throughput.py",
    ) or relative.startswith("pipelines/"):
        return
    tree = ast.parse(path.read_text())
    used = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in ("jit", "pjit", "pmap")]
    assert not used
    assert not [name for name in _imports(path) if name in ("jax.jit", "jax.pjit", "jax.pmap")]


@EVERY_MODULE
def test_no_asserts_in_the_library(path):
    assert not [n.lineno for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Assert)]


@EVERY_MODULE
def test_configuration_is_set_by_the_command_line_only(path):
    # Importing the toolkit into a notebook must not change how the reader's other code runs.
    if _package_of(path) == "cli":
        return
    text = path.read_text()
    assert "jax.config.update" not in text
    assert not re.search(r"os\.environ\[[^]]+\]\s*=|os\.environ\.setdefault|os\.putenv", text)
