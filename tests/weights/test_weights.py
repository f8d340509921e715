"""Weight files: what is written comes back bit by bit, anything else is refused and nothing is executed."""

import contextlib
import json
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from dps_jax import models
from dps_jax.io.errors import UserError
from dps_jax.io.parameters import flatten, read_parameters, write_parameters
from dps_jax.weights import RELEASED, load_network, released_path, save_network

SIZES = {"channels": (4, 8), "consistency_steps": 1, "iterates": (2,), "abbe_px": 2.5}
HEADER = {
    "config": {"steps": 3, "folder": None},
    "seed": 7,
    "package_version": "0.1.0",
    "final": {"loss": 0.1},
}


@pytest.fixture(scope="module")
def module():
    return models.build("res_u_dbpn", SIZES)


@pytest.fixture(scope="module")
def params(module):
    """Random numbers in the network's shapes, with the awkward ones among them."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    rng = np.random.default_rng(5)
    filled = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)
    jax.tree.leaves(filled)[0].ravel()[:3] = (-0.0, 1e-42, 3e38)
    return filled


@pytest.fixture
def saved(tmp_path, module, params):
    path = tmp_path / "w.safetensors"
    save_network(path, module, params, abbe_px=2.5, header=HEADER)
    return path


def same_bits(a, b):
    leaves, others = jax.tree_util.tree_leaves_with_path(a), jax.tree_util.tree_leaves_with_path(b)
    return [k for k, _ in leaves] == [k for k, _ in others] and all(
        np.asarray(x).tobytes() == np.asarray(y).tobytes() and x.dtype == y.dtype
        for (_, x), (_, y) in zip(leaves, others, strict=True)
    )


def test_round_trip_is_bit_equal(saved, module, params):
    network = load_network(path=saved)
    assert same_bits(network.params, params)
    assert network.module == module
    assert network.abbe_px == 2.5


def test_the_header_says_where_the_file_comes_from(saved):
    network = load_network(path=saved)
    assert {k: network.header[k] for k in HEADER} == HEADER
    assert network.header["task"] == "restore"
    assert network.header["model"] == "res_u_dbpn"
    assert network.header["sizes"]["channels"] == [4, 8]
    assert network.header["format_version"] == 1
    digest = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import hashlib; print(hashlib.sha256(open({str(saved)!r}, 'rb').read()).hexdigest())",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert network.sha256 == digest


def test_the_header_cannot_overrule_what_the_network_is(tmp_path, module, params):
    path = tmp_path / "w.safetensors"
    save_network(path, module, params, abbe_px=2.5, header={"model": "other", "sizes": {}, "abbe_px": 9})
    assert load_network(path=path).module == module


def test_equal_parameters_give_equal_bytes(tmp_path, module, params, saved):
    for i in range(4):
        save_network(tmp_path / f"{i}", module, params, abbe_px=2.5, header=dict(reversed(HEADER.items())))
        assert (tmp_path / f"{i}").read_bytes() == saved.read_bytes()


def test_another_process_gives_equal_bytes(tmp_path):
    # Hash seeds differ between processes, so an order that rests on hashing would show here.
    code = (
        "import sys, numpy as np; from dps_jax.io.parameters import write_parameters as w; "
        "w(sys.argv[1], {'b': {'y': np.arange(3.0), 'x': np.ones((2, 2))}, 'a': np.zeros(1)}, "
        "header={'z': 1, 'y': [1.5, None], 'é': 'ü'})"
    )
    for i in range(3):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / f"{i}")], check=True)
    assert len({(tmp_path / f"{i}").read_bytes() for i in range(3)}) == 1


def test_the_file_is_plain_safetensors(saved, params):
    content = saved.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + size])
    arrays = {k: v for k, v in head.items() if k != "__metadata__"}
    assert len(arrays) == len(jax.tree.leaves(params))
    assert {v["dtype"] for v in arrays.values()} == {"F32"}
    assert json.loads(head["__metadata__"]["dps_jax"])["seed"] == 7


def damaged_at():
    """Places over the whole file: its length field, its header and its arrays."""
    return [*range(8), *(8 + 37 * i for i in range(16)), *(-1 - 997 * i for i in range(16))]


@pytest.mark.parametrize("place", damaged_at())
@pytest.mark.parametrize("flip", [0x01, 0x20, 0xFF])
def test_a_flipped_byte_is_refused_or_without_effect(saved, params, place, flip):
    content = bytearray(saved.read_bytes())
    content[place] ^= flip
    good = load_network(path=saved)
    saved.write_bytes(content)
    with contextlib.suppress(UserError):
        network = load_network(path=saved)
        assert same_bits(network.params, params)
        assert network.header == good.header
        assert network.module == good.module


@pytest.mark.parametrize("share", [0, 1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
def test_a_cut_file_is_refused(saved, share):
    content = saved.read_bytes()
    for length in {int(share * len(content)), int(share * len(content)) + 7}:
        saved.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"w\.safetensors"):
            load_network(path=saved)
    saved.write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"damaged .*copy it again"):
        load_network(path=saved)
    saved.write_bytes(content + b"\0")
    with pytest.raises(UserError, match=r"damaged .*copy it again"):
        load_network(path=saved)


def test_another_format_version_is_refused(tmp_path, params):
    path = tmp_path / "new.safetensors"
    write_parameters(path, params, header={"format_version": 2})
    with pytest.raises(UserError, match="format version 2, but this dps-jax reads version 1; install"):
        load_network(path=path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    for metadata in (None, {"format": "pt"}, {"dps_jax": "[]"}, {"dps_jax": "{"}, {"dps_jax": "{}"}):
        save_file({"w": np.zeros(3, np.float32)}, tmp_path / "w", metadata=metadata)
        with pytest.raises(
            UserError, match=r"is not a weights file of dps-jax.*make one with `dps-jax train`"
        ):
            load_network(path=tmp_path / "w")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        b"\0" * 100,
        b"GIF89a" * 50,
        b"II*\0" + b"\1" * 200,
        struct.pack("<Q", 2) + b"[]",
        b"\xff" * 64,
        struct.pack("<Q", 20000) + b"[" * 20000,
    ],
)
def test_a_file_that_is_no_safetensors_is_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a weights file of dps-jax"):
        load_network(path=path)


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    path, touched = tmp_path / "w.safetensors", tmp_path / "touched"
    content = pickle.dumps(_Bomb(touched))
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a weights file of dps-jax"):
        load_network(path=path)
    assert not touched.exists()
    pickle.loads(content)  # the bomb is a real one
    assert touched.exists()


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the weights file .*nowhere"):
        load_network(path=tmp_path / "nowhere.safetensors")
    with pytest.raises(UserError, match="cannot read the weights file"):
        load_network(path=tmp_path)


@pytest.mark.parametrize("how", ["shape", "missing", "extra", "type", "collision"])
def test_arrays_that_do_not_fit_the_network_are_refused(tmp_path, saved, params, how):
    _, header, _ = read_parameters(saved)
    name = sorted(params)[0]
    other = {
        "shape": {**params, name: jax.tree.map(lambda a: a[..., :-1], params[name])},
        "missing": {k: v for k, v in params.items() if k != name},
        "extra": {**params, "surplus": np.zeros(2, np.float32)},
        "type": params,
        "collision": {**params, "surplus": np.zeros(2, np.float32), "surplus/inner": np.zeros(2, np.float32)},
    }[how]
    path = tmp_path / "other.safetensors"
    if how == "type":
        halves = {k: np.zeros(v.shape, np.float16) for k, v in flatten(params).items()}
        header.pop("content_sha256")
        save_file(halves, path, metadata={"dps_jax": json.dumps(header)})
    else:
        write_parameters(path, other, header=header)
    with pytest.raises(UserError, match=r"does not fit this dps-jax: expected the array|is damaged"):
        load_network(path=path)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"model": "nope"},
        {"sizes": {"channels": [4, 8], "nope": 1}},
        {"sizes": 3},
        {"abbe_px": "wide"},
        {"model": 3},
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path, saved, params, header):
    _, good, _ = read_parameters(saved)
    good = {k: v for k, v in good.items() if header or k not in ("model", "sizes")}
    path = tmp_path / "other.safetensors"
    write_parameters(path, params, header={**good, **header})
    with pytest.raises(UserError, match=r"does not fit this dps-jax: .*install the version it was made with"):
        load_network(path=path)


def test_a_file_that_cannot_be_written_is_refused(tmp_path, module, params):
    with pytest.raises(UserError, match="does not exist"):
        save_network(tmp_path / "no" / "w", module, params, abbe_px=2.5, header={})
    assert list(tmp_path.iterdir()) == []


def test_the_released_file_is_small_and_says_how_it_was_made():
    path = released_path()
    assert path.stat().st_size < 12e6
    network = load_network()
    assert network.abbe_px == 2.5
    made_by = network.header["config"]  # one config, or one for each stage of the training
    assert all(stage["steps"] > 0 for stage in (made_by if isinstance(made_by, list) else [made_by]))
    assert isinstance(network.header["seed"], int)
    assert network.header["package_version"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(network.params))
    assert len(network.sha256) == 64
    assert len(network.header["content_sha256"]) == 64  # damage to the file would be noticed


@pytest.mark.parametrize("task", sorted(RELEASED))
def test_the_released_files_fit_their_networks(task):
    # By name every array is checked against the network, which is not done again whenever a command starts.
    named, default = load_network(path=released_path(task=task), task=task), load_network(task=task)
    assert named.sha256 == default.sha256


def test_the_released_network_maps_images_to_twice_the_grid():
    network = load_network()
    side = 4 * network.module.grid_multiple
    out = jax.jit(network)(jnp.full((1, side, side, 1), 0.5))
    assert out.shape == (1, 2 * side, 2 * side, 1)
    assert float(out.min()) >= 0
