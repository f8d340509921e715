"""Damaged and hostile files: a clear error or a right answer, in bounded memory and time, and no traceback.

200 cases in the suite, 2,000 in ``make nightly`` (DPS_JAX_FUZZ_CASES). Every case is made from its own number, which a
failure names, so that it can be made again. The readers are called in this process, and so is the command line, whose
computing is left out: only what it does with files is looked at.
"""

import dataclasses
import json
import os
import shutil
import time
import typing

import hypothesis.strategies as st
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings

from dps_jax import io, models
from dps_jax.cli import main
from dps_jax.io.arrays import read_arrays
from dps_jax.io.frames import open_movie
from dps_jax.training.config import TrainConfig
from dps_jax.training.config_files import read_config
from dps_jax.weights import load_network, save_network

CASES = int(os.environ.get("DPS_JAX_FUZZ_CASES", "200"))
FREE_BYTES = 2**26  # what the readers are told is free
MOST_BYTES = 2**28  # what a case may take: an image of the budget, and what decoders need beside it
MOST_S = 20.0  # of processor time; a case takes some milliseconds
OPTICS = ["--na", "1.4", "--wavelength-nm", "525", "--pixel-size-nm", "65"]


def _share(part):
    """Numbers of the cases of a kind of file, ``part`` of all."""
    return range(round(part * CASES))


# Mutations of bytes


def _flip(rng, data):
    for place in rng.integers(0, len(data), rng.integers(1, 4)):
        data[place] ^= int(rng.integers(1, 256))


def _cut(rng, data):
    del data[int(rng.integers(0, len(data))) :]


def _drop(rng, data):
    start = int(rng.integers(0, len(data)))
    del data[start : start + int(rng.integers(1, 40))]


def _insert(rng, data):
    start = int(rng.integers(0, len(data) + 1))
    data[start:start] = rng.bytes(int(rng.integers(1, 20)))


def _number(rng, data):
    """An extreme number, where one may stand."""
    width = int(rng.choice([1, 2, 4, 8]))
    value = int(rng.choice([0, 1, 2, 2**7, 2**15, 2**31, 2**32 - 1, 2**63])) % 256**width
    start = int(rng.integers(0, max(len(data) - width, 1)))
    data[start : start + width] = value.to_bytes(width, str(rng.choice(["little", "big"])))


def _copy(rng, data):
    length = int(rng.integers(1, 64))
    source, target = (int(rng.integers(0, len(data))) for _ in range(2))
    data[target : target + length] = data[source : source + length]


def _swap(rng, data):
    """A word of the text, or the digits of a number, for another."""
    words = [
        b"true",
        b"nan",
        b"-1",
        b"1e999",
        b"[[",
        b"../../etc/passwd",
        b"9" * 30,
        b"\xff\xfe",
        b'"',
        b"{}",
        b"null",
    ]
    word = words[int(rng.integers(len(words)))]
    start = int(rng.integers(0, len(data)))
    data[start : start + len(word)] = word


MUTATIONS = [_flip, _flip, _number, _number, _cut, _drop, _insert, _copy, _swap]


def _mutated(content, case, head=None):
    """Return ``content`` changed once to three times; half of the cases in its first ``head`` bytes alone."""
    rng = np.random.default_rng([case, len(content)])
    split = len(content) if head is None or rng.random() < 0.5 else min(head, len(content))
    data = bytearray(content[:split])
    for _ in range(rng.integers(1, 4)):
        if data:
            MUTATIONS[rng.integers(len(MUTATIONS))](rng, data)
    return bytes(data) + content[split:]


# What must hold


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    for module in ("integrity", "arrays"):
        monkeypatch.setattr(f"dps_jax.io.{module}.available_bytes", lambda: FREE_BYTES)


@pytest.fixture
def clean(peak):
    """Run ``work``: it ends by itself or in one clear sentence, soon and without much memory."""

    def run(case, work):
        said = None
        began = time.process_time()
        with peak(MOST_BYTES):
            try:
                work()
            except io.UserError as problem:
                said = str(problem)
            except ValueError as problem:  # from a config
                said = str(problem)
                if not said.startswith("expected "):
                    raise
        assert said is None or ("\n" not in said and 10 < len(said) < 700), (case, said)
        assert time.process_time() - began < MOST_S, case

    return run


# TIFF

STACK = np.random.default_rng(7).integers(1, 4000, (3, 24, 20)).astype(np.uint16)
KINDS = {
    "plain": (STACK[0], {"resolution": (1e5, 1e5), "resolutionunit": "CENTIMETER"}),
    "imagej": (STACK, {"imagej": True, "metadata": {"axes": "TYX", "unit": "um", "finterval": 0.1}}),
    "ome": (
        STACK,
        {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm"}},
    ),
    "shaped": (STACK, {"metadata": {"axes": "TYX"}}),
    "bigtiff, tiles, lzw": (STACK, {"bigtiff": True, "tile": (16, 16), "compression": "lzw"}),
    "deflate, predictor": (STACK, {"compression": "zlib", "predictor": True, "rowsperstrip": 5}),
    "zstd, float": (STACK.astype(np.float32), {"compression": "zstd"}),
    "big-endian": (STACK.astype(">i2"), {"byteorder": ">"}),
    "jpeg": ((STACK[0] % 256).astype(np.uint8), {"compression": "jpeg", "tile": (16, 16)}),
    "packbits": ((STACK[0] % 256).astype(np.uint8), {"compression": "packbits"}),
    "jpeg 2000": ((STACK[0] % 256).astype(np.uint8), {"compression": "jpeg2000"}),
}


@pytest.fixture(scope="module")
def tiffs(tmp_path_factory):
    """Their bytes, the directory first: there is more to break in it than in the pixels."""
    folder, contents = tmp_path_factory.mktemp("tiffs"), {}
    for name, (data, options) in KINDS.items():
        tifffile.imwrite(folder / "a.tif", data, photometric="minisblack", **options)
        contents[name] = (folder / "a.tif").read_bytes()
    io.write_image(
        folder / "b.tif", STACK.astype(np.float32), axes="TYX", pixel_size_nm=65.0, description={"a": [1]}
    )
    return {**contents, "our own": (folder / "b.tif").read_bytes()}


def _read_tiff(path):
    io.check_values(io.read_image(path))


def _read_movie(path):
    with open_movie(path) as movie:
        for index in range(min(movie.shape[0], 4)):
            assert movie.frame(index).shape == movie.shape[1:]


TIFF_READERS = [_read_tiff, _read_movie, io.read_description]


def test_tiff(tiffs, tmp_path, clean):
    path, names = tmp_path / "a.tif", list(tiffs)
    ends = {True: 0, False: 0}
    for case in _share(0.5):
        content = tiffs[names[case % len(names)]]
        path.write_bytes(_mutated(content, case, head=600))
        read = TIFF_READERS[case // len(names) % len(TIFF_READERS)]

        def work(read=read):
            read(path)
            ends[True] += 1

        clean((names[case % len(names)], case), work)
        ends[False] += 1
    # What refused everything, or nothing, would prove nothing.
    assert 0.1 * ends[False] < ends[True] < 0.9 * ends[False]


class Reached(io.UserError):
    """Stands for the computing, which is another matter."""


def _reached(*_, **__):
    raise Reached("the file was read, as far as this test is concerned.")


COMMANDS = [
    ["restore", "a.tif", "-o", "out.tif", *OPTICS],
    ["solve", "wiener", "a.tif", "-o", "out.tif", *OPTICS],
    ["evaluate", "a.tif", "--raw", "a.tif", "--json", "out.json"],
    ["sim", "a.tif", "-o", "out.tif", "--phases", "3", "--angles", "1"],
    ["sim", "nine.tif", "-o", "out.tif", "--otf", "a.tif"],
    ["register", "a.tif", "-o", "out.tif"],
    ["solve", "wiener", "good.tif", "-o", "out.tif", "--psf", "a.tif", *OPTICS],
]
COMPUTING = (
    *("restore_file.run_chain", "solve_file._solved", "evaluate_file.evaluate", "sim_file.reconstruct_sim"),
    *(
        "register_file.register_template.build_template",
        "sim_file.spectral_cutoff",
        "restore_file.stream_file",
    ),
)


def _ended_well(ran, case):
    assert ran.code in (0, 2), case
    assert "Traceback" not in ran.err, case
    if ran.code == 2:
        assert len(ran.errors) == 1, (case, ran.err)
        assert len(ran.errors[0]) < 800, case


def test_tiff_on_the_command_line(tiffs, cli, scratch, monkeypatch, listing):
    for name in COMPUTING:
        monkeypatch.setattr(f"dps_jax.pipelines.{name}", _reached)
    tifffile.imwrite(scratch / "good.tif", STACK[0], photometric="minisblack")
    tifffile.imwrite(scratch / "nine.tif", np.concatenate([STACK] * 3), photometric="minisblack")
    names, read = list(tiffs), 0
    for case in _share(0.14):
        (scratch / "a.tif").write_bytes(_mutated(tiffs[names[case % len(names)]], case + 10**6, head=600))
        ran = cli(*COMMANDS[case % len(COMMANDS)])
        _ended_well(ran, (names[case % len(names)], case))
        read += "as far as this test" in ran.err
        assert listing() == ["a.tif", "good.tif", "nine.tif"], case
    assert read > 0.1 * len(_share(0.14))


# OME-Zarr


@pytest.fixture(scope="module")
def zarrs(tmp_path_factory):
    """Two images: ours (Zarr 3, NGFF 0.5, zstd) and one as older programs write them (Zarr 2, NGFF 0.4, blosc)."""
    zarr = pytest.importorskip("zarr")
    folder = tmp_path_factory.mktemp("zarrs")
    options = {"axes": "ZYX", "pixel_size_nm": 65.0, "z_step_nm": 200.0, "description": {"a": [1]}}
    io.write_image(folder / "new.zarr", STACK.astype(np.float32), **options)
    group = zarr.create_group(store=str(folder / "old.zarr"), zarr_format=2)
    group.create_array(
        "0", data=STACK, chunks=(1, 16, 16), chunk_key_encoding={"name": "v2", "separator": "/"}
    )
    names = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    scale = [{"type": "scale", "scale": [0.2, 0.065, 0.065]}]
    level = {"path": "0", "coordinateTransformations": scale}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": names, "datasets": [level]}]
    return [folder / "new.zarr", folder / "old.zarr"]


def _mutated_zarr(source, target, case):
    """Copy a folder and break one of its files, those of metadata more often; or lose one."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    rng = np.random.default_rng(case)
    files = sorted(p for p in target.rglob("*") if p.is_file())
    texts = [p for p in files if p.suffix == ".json" or p.name.startswith(".z")]
    choice = files if rng.random() < 0.3 else texts
    path = choice[int(rng.integers(len(choice)))]
    if rng.random() < 0.05:
        path.unlink()
    else:
        path.write_bytes(_mutated(path.read_bytes(), case))


def _read_regions(path):
    with io.open_image(path) as image:
        height, width = image.sides
        for plane in range(min(image.planes, 4)):
            image.read(plane, (0, min(height, 64)), (0, min(width, 64)))


def test_zarr(zarrs, tmp_path, clean):
    target, read_ones, cases = tmp_path / "a.zarr", 0, _share(0.1)
    for case in cases:
        _mutated_zarr(zarrs[case % 2], target, case)
        read = [_read_tiff, _read_regions, io.read_description][case // 2 % 3]

        def work(read=read):
            nonlocal read_ones
            read(target)
            read_ones += 1

        clean(case, work)
    assert 0.05 * len(cases) < read_ones < 0.95 * len(cases)


def test_zarr_on_the_command_line(zarrs, cli, scratch, monkeypatch):
    for name in COMPUTING:
        monkeypatch.setattr(f"dps_jax.pipelines.{name}", _reached)
    for case in _share(0.04):
        _mutated_zarr(zarrs[case % 2], scratch / "a.zarr", case + 10**6)
        words = [w.replace("a.tif", "a.zarr") for w in COMMANDS[case // 2 % 3]]
        _ended_well(cli(*words), (case, words))
        assert [p.name for p in scratch.iterdir()] == ["a.zarr"]


# Weights and arrays


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    module = models.build(
        "res_u_dbpn", {"channels": (4,), "consistency_steps": 0, "iterates": (), "abbe_px": 2.5}
    )
    import jax

    shapes = jax.eval_shape(module.init, jax.random.key(0), jax.numpy.zeros((1, 8, 8, 1)))["params"]
    params = jax.tree.map(lambda s: np.ones(s.shape, np.float32), shapes)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_network(path, module, params, abbe_px=2.5, header={"config": {"steps": 3}})
    content = path.read_bytes()
    np.savez(path.with_suffix(".npz"), a=np.ones((3, 4), np.float32), b=np.zeros(2))
    return content, path.with_suffix(".npz").read_bytes()


def test_weights(weights, tmp_path, clean):
    path, refused = tmp_path / "w.safetensors", []
    head = 8 + int.from_bytes(weights[0][:8], "little")
    for case in _share(0.1):
        path.write_bytes(_mutated(weights[0], case, head=head))

        def work(case=case):
            try:
                load_network(path=path)
            except io.UserError:
                refused.append(case)
                raise

        clean(case, work)
    assert len(refused) > 0.8 * len(_share(0.1))  # a checksum lets only the same content through


def test_arrays(weights, tmp_path, clean):
    for case in _share(0.05):
        path = tmp_path / "a"
        path.write_bytes(_mutated(weights[1], case))
        clean(case, lambda path=path: read_arrays(path, ["a", "b"]))


def test_weights_on_the_command_line(weights, cli, scratch):
    tifffile.imwrite(scratch / "good.tif", STACK[0], photometric="minisblack")
    head = 8 + int.from_bytes(weights[0][:8], "little")
    for case in _share(0.04):
        (scratch / "w.safetensors").write_bytes(_mutated(weights[0][: -1 - case], case, head=head))
        ran = cli("restore", "good.tif", "-o", "out.tif", "--weights", "w.safetensors", *OPTICS)
        _ended_well(ran, case)
        assert ran.code == 2, case
    assert sorted(p.name for p in scratch.iterdir() if p.is_file()) == ["good.tif", "w.safetensors"]


# Configs

TOML = """steps = 3
batch = 4
seed = 1
[network]
channels = [4, 8]
iterates = []
[scenes]
patch_px = 32
photons = [20.0, 5e3]
[images]
folder = "images"
na = 1.4
[objective]
split_shares = [0.4, 0.7]
[optimizer]
name = "adam"
"""


def test_bytes_of_a_config(tmp_path, clean):
    path = tmp_path / "c.toml"
    for case in _share(0.05):
        path.write_bytes(_mutated(TOML.encode(), case))
        clean(case, lambda: read_config(path))


def _settings():
    """Every setting by its place in a config file."""
    for field in dataclasses.fields(TrainConfig):
        kind = typing.get_type_hints(TrainConfig)[field.name]
        if dataclasses.is_dataclass(kind):
            yield from ((field.name, inner.name) for inner in dataclasses.fields(kind))
        else:
            yield ("", field.name)


VALUES = st.recursive(
    st.one_of(
        st.integers(),
        st.sampled_from([0, 1, -1, 2**31, 2**63 - 1, 10**400]),
        st.floats(),
        st.booleans(),
        st.text(max_size=20),
        st.sampled_from(["..", "/etc", "a/../../b", "~", "relu", "muon", "float32", "2020-01-01", "\0"]),
    ),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


def _toml(value):
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf").replace("\\u007f", "")


@settings(
    max_examples=max(20, round(0.1 * CASES)),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.dictionaries(st.sampled_from(sorted(_settings())), VALUES, min_size=1, max_size=3))
def test_values_of_a_config(tmp_path, clean, values):
    sections = {}
    for (section, name), value in values.items():
        sections.setdefault(section, []).append(f"{name} = {_toml(value)}")
    lines = [*sections.pop("", []), *(line for s, body in sections.items() for line in (f"[{s}]", *body))]
    path = tmp_path / "c.toml"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    clean(lines, lambda: read_config(path))


RUN = {"steps": 3, "batch": 4, "network": {"channels": [4, 8], "iterates": []}, "images": {"folder": None}}


def test_a_run_folder_on_the_command_line(cli, scratch, monkeypatch):
    """The config that an earlier run left, damaged; and the config file itself."""
    monkeypatch.setattr("dps_jax.cli.train._train", _reached)
    (scratch / "run").mkdir()
    (scratch / "c.toml").write_text(TOML)
    content = json.dumps(RUN, indent=1).encode()
    for case in _share(0.05):
        (scratch / "run" / "config.json").write_bytes(_mutated(content, case))
        (scratch / "broken.toml").write_bytes(_mutated(TOML.encode(), case + 10**6))
        for words in (["--run", "run", "--config", "c.toml"], ["--config", "broken.toml"]):
            ran = cli("train", "-o", "w.safetensors", *words)
            _ended_well(ran, (case, words))
            assert ran.code == 2, (case, words)


@pytest.mark.parametrize("text", ["a = " + "[" * 20_000, "a" + ".a" * 20_000 + " = 1", "a = " + "9" * 10_000])
def test_deep_and_long_configs(tmp_path, text, clean):
    path = tmp_path / "c.toml"
    path.write_text(text)
    clean(text[:20], lambda: read_config(path))
    assert main(["train", "-o", str(tmp_path / "w.safetensors"), "--config", str(path)]) == 2


def test_a_deep_run_folder(cli, scratch):
    (scratch / "run").mkdir()
    (scratch / "run" / "config.json").write_text("[" * 100_000)
    ran = cli("train", "-o", "w.safetensors", "--run", "run")
    _ended_well(ran, "deep")
    assert ran.code == 2


def test_the_mutations_change_things():
    """And a large share of the cases differ from each other."""
    content = imagecodecs.deflate_encode(STACK.tobytes())
    made = {_mutated(content, case, head=100) for case in range(100)}
    assert content not in made
    assert len(made) > 90
