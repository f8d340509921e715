"""Files that would run code if anything unpickled or evaluated them, in every place where a user can give one.

That no module of the package can do so is read from its syntax in ``test_writers``.
"""

import io as streams
import pickle
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

from dps_jax import io
from dps_jax.io.arrays import read_arrays
from dps_jax.io.parameters import write_parameters
from dps_jax.models.vgg import load_vgg
from dps_jax.training.checkpoint import Checkpoints

OPTICS = ["--na", "1.4", "--wavelength-nm", "525", "--pixel-size-nm", "65"]


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def touched(scratch):
    """The file that a bomb would make."""
    path = scratch / "touched"
    yield path
    assert not path.exists()


@pytest.fixture
def bombs(touched):
    """The same pickle as it is, as NumPy saves objects, in an archive of arrays, and as torch saves one."""
    plain = pickle.dumps(_Bomb(touched))
    array = streams.BytesIO()
    np.save(array, np.array([_Bomb(touched)], object), allow_pickle=True)
    archive, torch = streams.BytesIO(), streams.BytesIO()
    np.savez(archive, **{"features.0.weight": np.array([_Bomb(touched)], object)})
    with zipfile.ZipFile(torch, "w") as file:
        file.writestr("archive/data.pkl", plain)
    return {"pickle": plain, "npy": array.getvalue(), "npz": archive.getvalue(), "torch": torch.getvalue()}


def test_the_bombs_are_real(bombs, touched):
    for content in (bombs["pickle"], bombs["npy"], bombs["npz"]):
        assert not touched.exists()
        if content is bombs["pickle"]:
            pickle.loads(content)
        else:
            loaded = np.load(streams.BytesIO(content), allow_pickle=True)
            _ = loaded["features.0.weight"] if content is bombs["npz"] else loaded
        assert touched.exists()
        touched.unlink()


KINDS = pytest.mark.parametrize("kind", ["pickle", "npy", "npz", "torch"])


@KINDS
def test_in_place_of_weights_configs_and_images(cli, scratch, bombs, kind):
    good = np.random.default_rng(0).poisson(50.0, (16, 16)).astype(np.uint16)
    tifffile.imwrite(scratch / "good.tif", good)
    for name in ("bomb.safetensors", "bomb.toml", "bomb.tif", "run/config.json"):
        (scratch / name).parent.mkdir(exist_ok=True)
        (scratch / name).write_bytes(bombs[kind])
    for words in (
        ["restore", "good.tif", "-o", "out.tif", "--weights", "bomb.safetensors", *OPTICS],
        ["restore", "bomb.tif", "-o", "out.tif", *OPTICS],
        ["solve", "wiener", "good.tif", "-o", "out.tif", "--psf", "bomb.tif", *OPTICS],
        ["sim", "good.tif", "-o", "out.tif", "--otf", "bomb.tif"],
        ["evaluate", "good.tif", "--raw", "bomb.tif"],
        ["register", "bomb.tif", "-o", "out.tif"],
        ["demo", "--weights", "bomb.safetensors"],
        ["train", "-o", "w.safetensors", "--config", "bomb.toml"],
        ["train", "-o", "w.safetensors", "--run", "run"],
    ):
        ran = cli(*words)
        assert ran.code == 2, words
        assert len(ran.errors) == 1, (words, ran.err)
    assert not (scratch / "out.tif").exists()


@KINDS
@pytest.mark.parametrize("name", ["vgg.npz", "vgg.safetensors", "vgg.pth"])
def test_in_place_of_the_files_of_vgg(scratch, bombs, kind, name):
    (scratch / name).write_bytes(bombs[kind])
    for read in (load_vgg, lambda p: read_arrays(p, ["features.0.weight"])):
        with pytest.raises(io.UserError, match="vgg"):
            read(scratch / name)


def test_in_place_of_a_checkpoint(scratch, bombs):
    state = {"step": jnp.asarray(1), "params": {"a": jnp.ones((3, 4))}}
    with Checkpoints(scratch / "run") as checkpoints:
        checkpoints.save(state)
    for path in (scratch / "run").rglob("*"):
        if path.is_file():
            path.write_bytes(bombs["pickle"])
    with (
        Checkpoints(scratch / "run") as checkpoints,
        pytest.raises(ValueError, match="another or a damaged one: use a new run folder"),
    ):
        checkpoints.load(state)


def test_code_in_the_names_of_a_weights_file(cli, scratch):
    """The header chooses a network by its name, out of a list, and sizes by theirs."""
    tifffile.imwrite(scratch / "good.tif", np.arange(256, dtype=np.uint16).reshape(16, 16))
    for model in ("os.system", "__import__('os')", "../res_u_dbpn", "res_u_dbpn\0", ["res_u_dbpn"], None):
        header = {"model": model, "sizes": {"channels": "__import__('os').abort()"}, "abbe_px": 2.5}
        write_parameters(scratch / "w.safetensors", {"a": np.zeros(3, np.float32)}, header=header)
        ran = cli("restore", "good.tif", "-o", "out.tif", "--weights", "w.safetensors", *OPTICS)
        assert ran.code == 2
        assert "does not fit this dps-jax" in ran.errors[0]
