"""Configs small enough to compile and run in seconds; every test says its own settings on top of them."""

import dataclasses

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from dps_jax.training.config import NetworkConfig, ObjectiveConfig, OptimizerConfig, SceneConfig, TrainConfig

SECTIONS = {
    "network": NetworkConfig(channels=(4,), consistency_steps=0, iterates=()),
    "scenes": SceneConfig(
        patch_px=32, photons=(50.0, 500.0), brightness=(0.5, 1.0), background=0.2, read_noise=1.0, empty=0.05
    ),
    "objective": ObjectiveConfig(
        weighted_l2=10.0,
        ssim=0.1,
        hessian=0.01,
        sparsity=0.01,
        split_shares=(0.5, 0.8),
        photon_exponent=0.5,
        shrunk=10.0,
        shrunk_share=0.0,
        shrunk_fine=0.5,
        margin_px=6,
    ),
    "optimizer": OptimizerConfig(learning_rate=5e-3, warmup_steps=5),
}


def small_config(**changes):
    """Make a config; a section is given as a dictionary of what differs from ``SECTIONS``."""
    sections = {k: dataclasses.replace(v, **changes.pop(k, {})) for k, v in SECTIONS.items()}
    return TrainConfig(
        **sections, **{"steps": 30, "batch": 4, "log_every": 10, "checkpoint_every": 10, **changes}
    )


@pytest.fixture(scope="session")
def make_config():
    return small_config


def structured_scene(rng, shape):
    """Smooth positive image of blobs on a faint ground, of mean 1, band-limited like a microscope's."""
    points = (rng.random(shape) < 0.01) * rng.uniform(0.3, 1, shape)
    image = 0.2 + 40 * ndimage.gaussian_filter(points, 2.0, mode="wrap")
    return image / image.mean()


def write_imagej(path, image, pixel_size_nm):
    """Write what ImageJ would: the pixel size as pixels per micrometre."""
    image = np.clip(np.rint(image), 0, 65535).astype(np.uint16)
    scale = (
        {}
        if pixel_size_nm is None
        else {"resolution": (1e3 / pixel_size_nm,) * 2, "metadata": {"unit": "um"}}
    )
    tifffile.imwrite(path, image, imagej=True, **scale)


@pytest.fixture(scope="session")
def blobs():
    return structured_scene


@pytest.fixture(scope="session")
def imagej_tiff():
    return write_imagej
