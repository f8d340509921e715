"""The same command with the same seed on the same machine gives the same bytes, every file that it writes.

``simulate``, ``demo``, ``restore``, the blind methods and ``train`` (a run that was stopped and one that was not) are
compared in their own tests, where the files are made anyway.
"""

import hashlib

import numpy as np
import pytest

from dps_jax.optics import OpticalSystem
from dps_jax.pipelines.simulate_sim import acquire_sim
from dps_jax.synthetic import two_photon

OPTICS = ["--na", "1.4", "--wavelength-nm", "525"]
COMMANDS = {  # words, and the files that they write
    "solve": ("solve richardson-lucy cell.tif -o OUT/s.tif --iterations 5", 1),
    "evaluate": (
        "evaluate cell.tif --raw cell.tif --repeat other.tif --json OUT/e.json --figure OUT/e.png",
        2,
    ),
    "sim": ("sim raw.tif -o OUT/sim.tif --no-refine --json OUT/sim.json --figure OUT/sim.png", 3),
    "register": (
        "register movie.tif -o OUT/m.tif --method rigid --save-flow OUT/f.tif --json OUT/m.json --figure OUT/m.png",
        4,
    ),
}


@pytest.fixture
def inputs(save, cell, rng):
    save("cell.tif", cell)
    save("other.tif", rng.poisson(cell).astype(np.uint16))
    system = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=65.0)
    frames = acquire_sim(5001, system, shape=(64, 64), photons=500, background=10.0).frames
    save("raw.tif", frames.reshape(9, 64, 64).astype(np.uint16), axes="TYX")
    movie = two_photon.movie(rng, (32, 32), frames=4)[0]
    save("movie.tif", two_photon.count_photons(rng, movie, photons=100).astype(np.uint16), axes="TYX")


@pytest.mark.parametrize("name", COMMANDS)
def test_twice_the_same(cli, scratch, inputs, name):
    words, count = COMMANDS[name]
    found = []
    for folder in ("first", "second"):
        (scratch / folder).mkdir()
        ran = cli(*words.replace("OUT", folder).split(), *([] if name == "register" else OPTICS))
        assert (ran.code, ran.errors) == (0, [])
        files = sorted((scratch / folder).iterdir())
        found.append({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files})
    assert len(found[0]) == count
    assert found[0] == found[1]
