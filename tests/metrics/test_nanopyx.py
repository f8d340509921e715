"""FRC, decorrelation analysis and SQUIRREL against NanoPyx 2.1 (Saraiva et al. 2025), in a process of its own.

NanoPyx is a test-only dependency with many of its own; where it cannot be installed nothing is compared.
"""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from dps_jax import metrics, solvers
from dps_jax.optics import airy_psf

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("nanopyx") is None, reason="NanoPyx is not installed (pip install '.[oracles]')"
)
PIXEL_NM = 32.5
# It warns of accelerators that it does not find, and prints: it must not run where warnings are errors.
PROGRAM = """
import json, sys
import numpy as np
from nanopyx.methods.squirrel import calculate_decorr_analysis, calculate_error_map, calculate_frc
found = {}
with np.load(sys.argv[1]) as images:
    for period in sys.argv[3:]:
        first, second, result = (images[f"{name}_{period}"] for name in ("first", "second", "result"))
        _, rse, rsp = calculate_error_map(first, result)
        found[period] = {
            "frc": float(calculate_frc(first, second, pixel_size=32.5, units="nm")),
            "decorrelation": float(calculate_decorr_analysis(first, pixel_size=32.5, units="nm")),
            "rsp": float(rsp),
            "rse": float(rse),
        }
with open(sys.argv[2], "w") as file:
    json.dump(found, file)
"""


@pytest.fixture(scope="module")
def results(exposures):
    """A restoration of the first exposure for each cut-off."""
    found = {}
    for period, (first, _) in exposures.items():
        psf = airy_psf(abbe_px=period / PIXEL_NM, size=25)
        found[period] = np.asarray(solvers.richardson_lucy(first - 60, psf, iterations=15, factor=1))
    return found


@pytest.fixture(scope="module")
def nanopyx(exposures, results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nanopyx")
    arrays = {f"result_{period}": image for period, image in results.items()}
    for period, (first, second) in exposures.items():
        arrays |= {f"first_{period}": first, f"second_{period}": second}
    np.savez(folder / "images.npz", **arrays)
    words = [str(folder / "images.npz"), str(folder / "found.json"), *map(str, exposures)]
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, *words], capture_output=True, text=True, cwd=folder
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return {int(k): v for k, v in json.loads((folder / "found.json").read_text()).items()}


@pytest.mark.parametrize("period", [100, 150, 200])
def test_within_three_percent(exposures, results, nanopyx, period):
    first, second = exposures[period]
    fidelity = metrics.squirrel(results[period], first)
    ours = {
        "frc": float(metrics.frc_resolution(first, second, pixel_size_nm=PIXEL_NM)),
        "decorrelation": float(metrics.decorrelation_resolution(first, pixel_size_nm=PIXEL_NM)),
        "rsp": fidelity.rsp,
        "rse": fidelity.rse,
    }
    for name, theirs in nanopyx[period].items():
        assert abs(ours[name] / theirs - 1) < 0.03, name
    # 1 - RSP is what tells results apart.
    np.testing.assert_allclose(1 - ours["rsp"], 1 - nanopyx[period]["rsp"], rtol=0.03)
