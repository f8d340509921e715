"""Methods side by side: one table, one picture, and an oracle that keeps its word."""

import builtins
import itertools

import jax
import matplotlib.image
import numpy as np
import pytest

from dps_jax.io import UserError
from dps_jax.metrics.scores import psnr_at_promised_resolution
from dps_jax.pipelines.compare import METHODS, compare, invented_texture
from dps_jax.pipelines.figure import draw_comparison, richest_row
from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire
from dps_jax.pipelines.tables import COLUMNS, score_table
from dps_jax.solvers.richardson_lucy import richardson_lucy

ABBE_PX = 2 * 187.5 / 65


@pytest.fixture(scope="module")
def scene():
    return acquire(1, DEMO_SYSTEM, shape=(64, 48), photons=300.0, background=4.0)


@pytest.fixture(scope="module")
def comparison(scene, released):
    return compare(scene, released, iterations=10)


def test_every_method_has_an_image_and_scores(comparison, scene):
    assert tuple(comparison.images) == tuple(comparison.scores) == METHODS
    for name in METHODS:
        assert comparison.images[name].shape == scene.truth.shape
        assert np.isfinite(comparison.images[name]).all()
        assert set(comparison.scores[name]) == set(COLUMNS)
        assert np.isfinite([comparison.scores[name][k] for k in ("psnr_db", "ssim", "out_of_band")]).all()


def test_methods_keep_the_photons(comparison, scene):
    light = (scene.image - scene.background).sum(dtype=np.float64)
    # Richardson-Lucy counts negative pixels (dark after the background is taken off) as 0, and conserves photons
    # up to what the border takes.
    for name, tolerance in (("input", 1e-5), ("bicubic", 0.01), ("ours", 1e-4), ("RL (oracle)", 0.1)):
        assert comparison.images[name].sum(dtype=np.float64) == pytest.approx(light, rel=tolerance)


def test_the_oracle_takes_the_best_iteration(comparison, scene):
    image = scene.image - scene.background

    @jax.jit
    def score(iterations):
        estimate = richardson_lucy(image, scene.psf, iterations=iterations)
        return psnr_at_promised_resolution(estimate, scene.truth, abbe_px=ABBE_PX)

    scores = [float(score(i)) for i in range(1, 11)]
    assert comparison.oracle_iteration == 1 + int(np.argmax(scores))
    assert comparison.scores["RL (oracle)"]["psnr_db"] == pytest.approx(max(scores), abs=1e-3)


def test_the_control_invents_texture(comparison):
    plain, texture = (comparison.scores[k] for k in ("RL (oracle)", "RL + texture"))
    assert texture["psnr_db"] < plain["psnr_db"]
    assert texture["out_of_band"] < plain["out_of_band"]
    image = comparison.images["RL (oracle)"]
    again = invented_texture(image, abbe_px=ABBE_PX, seed=0)
    assert np.array_equal(again, comparison.images["RL + texture"])
    assert not np.array_equal(again, invented_texture(image, abbe_px=ABBE_PX, seed=1))
    assert again.min() >= 0
    beyond = [power_beyond(i, 1 / ABBE_PX) for i in (image, again)]
    assert beyond[1] > 3 * beyond[0]


def power_beyond(image, cutoff):
    fy, fx = np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None, :]
    power = np.abs(np.fft.fft2(image)) ** 2
    return power[np.hypot(fy, fx) > cutoff].sum() / power.sum()


def test_the_released_network_is_above_bicubic(comparison):
    assert comparison.scores["ours"]["psnr_db"] > comparison.scores["bicubic"]["psnr_db"]


ROW = {"psnr_db": 20.0, "ssim": 0.5, "out_of_band": 0.25, "resolution_nm": 150.0}


def test_table_shows_means_and_standard_errors():
    table = score_table(
        {"ours": [ROW, {**ROW, "psnr_db": 22.0, "resolution_nm": float("nan")}], "input": [ROW, ROW]},
        title="Two",
    )
    lines = table.splitlines()
    assert lines[0].strip() == "Two"
    assert all(heading in table for heading, _ in COLUMNS.values())
    (ours,) = (line for line in lines if line.strip().startswith("ours"))
    # Two values 2 apart: their standard error is sqrt(2) / sqrt(2) = 1.
    assert "21.00 ± 1.00" in ours
    assert "150 (1/2)" in ours
    (other,) = (line for line in lines if line.strip().startswith("input"))
    assert "20.00 ± 0.00" in other
    assert "150 ± 0" in other


def test_table_of_one_scene_has_no_errors():
    table = score_table({"ours": [ROW | {"resolution_nm": float("inf")}]}, title="One")
    assert "±" not in table
    assert "20.00" in table
    assert table.rstrip().splitlines()[-1].rstrip().endswith("-")


def test_table_of_a_comparison(comparison):
    table = score_table({k: [v] for k, v in comparison.scores.items()}, title="scene")
    assert all(any(line.strip().startswith(name) for line in table.splitlines()) for name in METHODS)
    assert max(map(len, table.splitlines())) <= 110


def test_the_picture_is_written_and_not_blank(tmp_path, scene, comparison):
    path = tmp_path / "demo.png"
    draw_comparison(path, scene, comparison)
    pixels = matplotlib.image.imread(path)[..., :3]
    assert min(pixels.shape[:2]) > 500
    # Four panels above, one plot below: every one of them must hold something.
    height, width = pixels.shape[:2]
    top, bottom = pixels[: int(0.55 * height)], pixels[int(0.65 * height) :]
    panels = [top[:, int(i * width / 4) : int((i + 1) * width / 4)] for i in range(4)]
    assert all(part.std() > 0.05 for part in (*panels, bottom))
    assert all(np.abs(a[:, :100] - b[:, :100]).max() > 0.1 for a, b in itertools.pairwise(panels))
    assert [p.name for p in tmp_path.iterdir()] == ["demo.png"]


def test_without_matplotlib_the_user_is_told(tmp_path, scene, comparison, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"needs matplotlib; install it with `pip install dps-jax\[plots\]`"):
        draw_comparison(tmp_path / "demo.png", scene, comparison)
    assert not list(tmp_path.iterdir())


def test_richest_row_is_where_the_contrast_is():
    truth = np.zeros((64, 64))
    truth[40, ::4] = 1
    truth[2, ::2] = 5  # at the border, where nothing is looked at
    assert richest_row(truth) == 40
