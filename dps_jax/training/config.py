"""Everything that a training run depends on, as typed plain data: a run is a function of this and nothing else.

The same classes are the command line of ``dps-jax train`` and the sections of its TOML file (``config_files``).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dps_jax import _checks


@dataclass(frozen=True)
class NetworkConfig:
    """Name and sizes of the network."""

    name: str = "res_u_dbpn"
    """Registered network."""
    channels: tuple[int, ...] = (24, 48, 96)
    """Features per U-Net level, finest first."""
    blocks: int = 1
    """Residual blocks per level."""
    projections: int = 1
    """Back-projection stages."""
    projection_features: int | None = None
    """Features of the back-projection; by default those of the finest level."""
    consistency_steps: int = 1
    """Gated Richardson-Lucy steps after the last layer; 0 is the published architecture."""
    iterates: tuple[int, ...] = (3, 8, 20, 48)
    """Numbers of accelerated Richardson-Lucy steps whose estimates the network mixes; empty as published."""
    dtype: str = "float32"
    """In what the layers compute, ``float32`` or ``bfloat16``; parameters and physics stay float32."""

    @property
    def sizes(self) -> dict[str, Any]:
        """Return the sizes as the model registry takes them."""
        sizes = {k: v for k, v in dataclasses.asdict(self).items() if k != "name"}
        # Left to the arrays themselves, float32 can be float64 where someone asks JAX for it.
        return {**sizes, "dtype": None if self.dtype == "float32" else self.dtype}


@dataclass(frozen=True)
class SceneConfig:
    """Synthetic acquisitions at the canonical sampling."""

    patch_px: int = 48
    """Side of a camera patch in px; a multiple of the network's coarsest grid."""
    abbe_px: float = 2.5
    """Abbe period in camera px: the canonical sampling of the network."""
    photons: tuple[float, float] = (20.0, 5000.0)
    """Photons at intensity 1, drawn log-uniformly between these."""
    brightness: tuple[float, float] = (0.25, 1.2)
    """Brightest pixel of a patch, log-uniform: a patch of a large image need not hold its maximum."""
    background: float = 0.3
    """Largest smooth background added to a patch, in units of intensity."""
    read_noise: float = 2.0
    """Largest Gaussian read noise in photons, uniform from 0."""
    pedestal: float = 0.2
    """Largest constant background, in units of intensity: its photons are counted and its level taken off."""
    other_cameras: float = 0.6
    """Share of exposures whose noise is that of a camera of another pixel size, brought to the canonical one."""
    psf_error: float = 0.025
    """Relative error of the Abbe period (NA, wavelength, focus), standard deviation."""
    empty: float = 0.03
    """Share of patches that hold background only."""
    frames: int = 1
    """Frames of a moving scene that make one exposure; from 2 on the Hessian asks for continuity in time as well."""


@dataclass(frozen=True)
class FolderConfig:
    """Real images to train on, besides or instead of the scenes."""

    folder: Path | None = None
    """Folder of TIFF files; none trains on synthetic scenes alone."""
    share: float = 0.5
    """Share of the patches that is cut from the folder's images, where there is one."""
    na: float | None = None
    """Numerical aperture of the images."""
    wavelength_nm: float | None = None
    """Emission wavelength of the images in nm."""
    modulation: float = 1.0
    """Modulation factor of the images: 1 for widefield or confocal, about 2 for SIM."""
    pixel_size_nm: float | None = None
    """Pixel size in nm where the files do not state it."""
    gain: float | None = None
    """Camera units per photon; by default estimated from the mean-variance line of each image."""
    offset: float | None = None
    """Camera value in the dark; by default estimated from the mean-variance line of each image."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the loss terms (0 leaves a term out) and how the photons are used."""

    weighted_l2: float = 10.0
    ssim: float = 0.1
    hessian: float = 0.005
    sparsity: float = 0.005
    l1: float = 0.0
    l2: float = 0.0
    poisson: float = 0.0
    fft_l1: float = 0.0
    tv: float = 0.0
    split_shares: tuple[float, ...] = (0.4, 0.7)
    """Shares of the photons that the loss is scored on and the network does not see; empty scores the network
    on its own input, as published."""
    photon_exponent: float = 0.5
    """The fidelity of a patch counts as its photons to this power; 1 is the likelihood, 0 ignores them."""
    shrunk: float = 10.0
    """Weight of the scale transfer: the noise-weighted squared error, at the promised resolution, on measured
    images that were shrunk and photographed again; with the next, the only term that looks beyond the cut-off."""
    shrunk_fine: float = 0.5
    """Weight of the same error in full detail."""
    shrunk_share: float = 0.75
    """Share of each batch that is used for the scale transfer; 0 leaves it out."""
    shrinkage: tuple[float, float] = (4.0, 8.0)
    """How many times a measured image is shrunk for the scale transfer, log-uniform; at least 2."""
    hessian_time: float = 1.0
    """Weight of the continuity in time within the Hessian of movies (``scenes.frames``); published as sigma."""
    margin_px: int = 8
    """Camera pixels at the border of a patch on which nothing is scored: light from outside is not modelled."""

    @property
    def weights(self) -> dict[str, float]:
        """Return the weights that are not 0, by name of the loss term."""
        scalars = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = (
            "split_shares",
            "photon_exponent",
            "hessian_time",
            "margin_px",
            "shrunk",
            "shrunk_fine",
            "shrunk_share",
            "shrinkage",
        )
        return {k: float(v) for k, v in scalars.items() if k not in plain and v != 0}


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimiser with warm-up, cosine decay and clipping of the global norm."""

    name: str = "muon"
    """``adam``, or ``muon``: orthogonalised momentum for the kernels inside the network, Adam for the rest."""
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    final_fraction: float = 0.01
    """Learning rate at the end, as a fraction of the largest."""
    clip_norm: float = 1.0
    """SSIM's gradient explodes on dark flat patches; without clipping a run can end in NaN."""
    ema_decay: float = 0.0
    """Above 0, what is saved and scored is not the last weights but their mean over about ``1 / (1 - ema_decay)``
    steps, with exponentially fading memory (Polyak and Juditsky 1992)."""


@dataclass(frozen=True)
class ParallelConfig:
    """How a run is laid out over devices; beyond rounding, what it learns does not depend on it."""

    model_shards: int = 1
    """Devices that share one copy of weights and optimiser state; 1 keeps them whole on every device."""
    shard_above: int = 65536
    """Arrays of fewer numbers than this are kept whole on every device."""
    accumulate: int = 1
    """Parts of equal size that each batch is worked through in, where it does not fit the memory at once."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            _checks.positive_integer(f"parallel.{name}", value)


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    scenes: SceneConfig = field(default_factory=SceneConfig)
    images: FolderConfig = field(default_factory=FolderConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    initial: Path | None = None
    """Weights file to start from, for instance the released one; by default random weights."""
    steps: int = 20000
    batch: int = 8
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    """Latest checkpoints that stay; the one of the lowest mean loss since the one before stays besides."""
    most_skipped: int = 10
    """Steps in a row whose loss or gradient is not finite, and which are skipped, after which a run stops."""

    @property
    def shrunk_count(self) -> int:
        """Return how many patches of a batch are for the scale transfer."""
        return round(self.batch * self.objective.shrunk_share)

    @property
    def common_parts(self) -> int:
        """Return the largest number of devices that both parts of a batch can be shared by, movies whole."""
        return math.gcd(self.exposures, self.shrunk_count) // self.parallel.accumulate

    @property
    def exposures(self) -> int:
        """Return how many images, or movies, of a batch are predicted and scored on photons held back."""
        return (self.batch - self.shrunk_count) // self.scenes.frames

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every", "checkpoint_every", "keep_checkpoints", "most_skipped"):
            _checks.positive_integer(name, getattr(self, name))
        if not self.network.channels:
            raise ValueError("expected network.channels with at least one level, got none")
        multiple = 2 ** (len(self.network.channels) - 1)
        patch, margin = self.scenes.patch_px, self.objective.margin_px
        if patch % multiple:
            raise ValueError(f"expected scenes.patch_px to be a multiple of {multiple}, got {patch}")
        if patch - 2 * margin < 11:
            raise ValueError(
                f"expected scenes.patch_px to leave at least 11 px inside objective.margin_px ({margin}), got {patch}"
            )
        for name, (low, high) in (("photons", self.scenes.photons), ("brightness", self.scenes.brightness)):
            if not 0 < low <= high:
                raise ValueError(f"expected scenes.{name} as 0 < low <= high, got {(low, high)}")
        if not 2 <= self.objective.shrinkage[0] <= self.objective.shrinkage[1]:
            raise ValueError(
                f"expected objective.shrinkage as 2 <= low <= high, got {self.objective.shrinkage}"
            )
        if any(not 0 < q < 1 for q in self.objective.split_shares):
            raise ValueError(
                f"expected objective.split_shares between 0 and 1, got {self.objective.split_shares}"
            )
        predicted, frames = self.batch - self.shrunk_count, self.scenes.frames
        _checks.positive_integer("scenes.frames", frames)
        if predicted % frames:
            raise ValueError(
                f"expected the {predicted} images of a batch that are not shrunk to be movies of scenes.frames "
                f"({frames}) images; change batch, objective.shrunk_share or scenes.frames"
            )
        if frames > 1 and self.images.folder is not None:
            raise ValueError(
                f"expected scenes.frames to be 1 where images.folder is given, got {frames}: its images are single ones"
            )
        if not self.objective.weights:
            raise ValueError("expected at least one loss weight that is not 0")
        parts, wanted = math.gcd(self.exposures, self.shrunk_count), self.parallel.accumulate
        if parts % wanted:
            raise ValueError(
                f"expected parallel.accumulate to divide both the {self.exposures} exposures and the "
                f"{self.shrunk_count} shrunken images of a batch, got {wanted}"
            )
        _check_ranges(self)


def _check_ranges(config: TrainConfig) -> None:
    """Refuse numbers that would only fail, or quietly do nothing, deep inside a run."""
    network, scenes, images = config.network, config.scenes, config.images
    objective, optimizer = config.objective, config.optimizer
    for i, features in enumerate(network.channels):
        _checks.positive_integer(f"network.channels[{i}]", features)
    for name in ("blocks", "projections"):
        _checks.positive_integer(f"network.{name}", getattr(network, name))
    for i, count in enumerate(network.iterates):
        _checks.positive_integer(f"network.iterates[{i}]", count)
    if list(network.iterates) != sorted(set(network.iterates)):
        raise ValueError(f"expected network.iterates in ascending order, got {network.iterates}")
    if network.projection_features is not None:
        _checks.positive_integer("network.projection_features", network.projection_features)
    _checks.positive("scenes.abbe_px", scenes.abbe_px)
    for name in ("background", "pedestal", "read_noise", "psf_error", "empty"):
        _checks.non_negative(f"scenes.{name}", getattr(scenes, name))
    _checks.one_of("network.dtype", network.dtype, ("float32", "bfloat16"))
    _checks.one_of("optimizer.name", optimizer.name, ("adam", "muon"))
    for name in ("learning_rate", "clip_norm"):
        _checks.positive(f"optimizer.{name}", getattr(optimizer, name))
    if not 0 <= optimizer.ema_decay < 1:
        raise ValueError(f"expected optimizer.ema_decay from 0 to below 1, got {optimizer.ema_decay!r}")
    shares = (
        ("scenes.empty", scenes.empty),
        ("scenes.other_cameras", scenes.other_cameras),
        ("images.share", images.share),
    )
    for name, value in (*shares, ("objective.shrunk_share", objective.shrunk_share)):
        if not 0 <= value <= 1:
            raise ValueError(f"expected {name} between 0 and 1, got {value!r}")
    _checks.positive("images.gain", images.gain)
    for name, value in {
        **objective.weights,
        "shrunk": objective.shrunk,
        "shrunk_fine": objective.shrunk_fine,
        "hessian_time": objective.hessian_time,
    }.items():
        _checks.non_negative(f"objective.{name}", value)
    whole = (("seed", config.seed), ("objective.margin_px", objective.margin_px))
    for name, number in (*whole, ("network.consistency_steps", network.consistency_steps)):
        if number < 0:
            raise ValueError(f"expected {name} to be a whole number of 0 or more, got {number!r}")
