"""Arrays of other people's files: what is asked for comes back, nothing is executed."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from dps_jax.io.arrays import read_arrays
from dps_jax.io.errors import UserError

ARRAYS = {"a.weight": np.arange(6.0).reshape(2, 3), "b": np.ones(2, np.float16), "surplus": np.zeros(9)}


@pytest.fixture(params=["npz", "safetensors", "compressed"])
def path(request, tmp_path):
    # Whatever the file is called: its content tells its kind.
    target = tmp_path / "some.file"
    if request.param == "safetensors":
        save_file(ARRAYS, target)
    else:
        with target.open("wb") as file:
            (np.savez if request.param == "npz" else np.savez_compressed)(file, **ARRAYS)
    return target


def test_the_named_arrays_come_back_as_float32(path):
    found = read_arrays(path, ["b", "a.weight"])
    assert list(found) == ["b", "a.weight"]
    for name, array in found.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_a_missing_array_is_named(path):
    with pytest.raises(
        UserError, match=r"expected the array c in .*some\.file, found a\.weight, b, surplus;"
    ):
        read_arrays(path, ["b", "c"])


def test_a_damaged_file_is_refused(path):
    content = path.read_bytes()
    for length in (0, 1, 2, 9, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"some\.file is damaged or of an unknown kind"):
            read_arrays(path, ["a.weight"])


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the file .*nowhere"):
        read_arrays(tmp_path / "nowhere", ["a"])


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    touched = tmp_path / "touched"
    np.savez(tmp_path / "bomb.npz", a=np.array([_Bomb(touched)], dtype=object))
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(_Bomb(touched)))
    for name in ("bomb.npz", "bomb.pt"):
        with pytest.raises(UserError, match="is damaged or of an unknown kind"):
            read_arrays(tmp_path / name, ["a"])
    assert not touched.exists()
    pickle.loads((tmp_path / "bomb.pt").read_bytes())  # the bomb is a real one
    assert touched.exists()
