"""Everything that a training of the flow network depends on, as typed plain data (no jax)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from dps_jax import _checks
from dps_jax.training.config import OptimizerConfig

OBJECTIVES = ("endpoint", "l2", "ncc", "local_ncc")


@dataclass(frozen=True)
class MotionConfig:
    """How frames move, after their whole pixels of rigid motion are taken out; lengths in px."""

    still: float = 0.15
    """Share of frames that do not move."""
    rigid: float = 0.1
    """Share of frames that move as a whole."""
    shift_px: float = 0.7
    """Standard deviation of the shift that is left, per axis."""
    vector_px: tuple[float, float] = (1.0, 6.0)
    """Standard deviation of a bump's vector before it is divided by 2 pi, log-uniform; published is 3."""
    sigma_px: tuple[float, float] = (18.0, 100.0)
    """Width of a bump, log-uniform: 23 is the published share of 128 px, 92 of 512."""
    scan_lines: float = 0.15
    """Share of deformed frames whose lines moved during the scan as well."""
    scan_line_px: float = 0.8
    """Largest standard deviation of that."""

    def __post_init__(self) -> None:
        for name in ("still", "rigid", "scan_lines"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"expected motion.{name} between 0 and 1, got {getattr(self, name)!r}")
        for name in ("shift_px", "scan_line_px"):
            _checks.non_negative(f"motion.{name}", getattr(self, name))
        for name in ("vector_px", "sigma_px"):
            _check_range(f"motion.{name}", getattr(self, name))


@dataclass(frozen=True)
class FlowLossConfig:
    """What a flow is scored on, and how levels are weighted."""

    objective: str = "endpoint"
    """endpoint: the distance from the true flow, which simulated pairs have. l2, ncc, local_ncc: the likeness of the
    corrected frame to the template, without truth; noise draws these to flows that interpolate."""
    levels: tuple[float, ...] = (0.1, 0.2, 0.2, 0.3, 1.0)
    """Weight of the flow of every step, coarsest first; the last is that of the image's own grid."""
    first_order: float = 0.0
    """Weight of the squared slope of the last flow."""
    second_order: float = 0.0
    """Weight of its squared bending."""

    def __post_init__(self) -> None:
        _checks.one_of("loss.objective", self.objective, OBJECTIVES)
        for i, weight in enumerate(self.levels):
            _checks.non_negative(f"loss.levels[{i}]", weight)
        for name in ("first_order", "second_order"):
            _checks.non_negative(f"loss.{name}", getattr(self, name))


@dataclass(frozen=True)
class FlowConfig:
    """A training of the flow network; sizes as :class:`dps_jax.models.FlowUNet` takes them."""

    channels: tuple[int, ...] = (16, 24, 32, 48)
    flow_features: int = 32
    windows: tuple[float, ...] = (1.5, 4.0, 10.0)
    cost_radius: int = 0
    repeats: int = 2
    squarings: int = 0
    loss: FlowLossConfig = field(default_factory=FlowLossConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=3e-3, warmup_steps=100, clip_norm=1.0)
    )
    side_px: int = 128
    """Side of a frame; a multiple of the network's coarsest grid."""
    scenes: int = 160
    """Scenes that all pairs are cut from."""
    photons: tuple[float, float] = (4.0, 300.0)
    """Photons of a bright resting cell in one frame, log-uniform."""
    template_frames: tuple[float, float] = (5.0, 200.0)
    """Frames whose mean is the template, log-uniform."""
    template_blur_px: float = 0.8
    """Largest width of the blur that a template has of frames not quite in register."""
    gain: float = 1.25
    """Largest factor between the brightness of frame and template."""
    shading: float = 0.2
    """Largest slow change of brightness over the field, as a logarithm."""
    read_noise: float = 0.5
    """Largest standard deviation of noise that is no photons', in photons."""
    steps: int = 3000
    batch: int = 4
    """Templates per step."""
    frames: int = 2
    """Frames per template."""
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 250
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch",
            "frames",
            "scenes",
            "repeats",
            "log_every",
            "checkpoint_every",
            "keep_checkpoints",
        ):
            _checks.positive_integer(name, getattr(self, name))
        if len(self.channels) < 2:
            raise ValueError(f"expected channels of two levels or more, got {self.channels}")
        multiple = 2 ** len(self.channels)
        if self.side_px % multiple:
            raise ValueError(f"expected side_px to be a multiple of {multiple}, got {self.side_px}")
        count = len(self.channels) + self.repeats - 1
        if len(self.loss.levels) != count:
            raise ValueError(
                f"expected loss.levels as many as flows, which are {count}, got {len(self.loss.levels)}"
            )
        for name in ("photons", "template_frames"):
            _check_range(name, getattr(self, name))
        for name in ("template_blur_px", "shading", "read_noise"):
            _checks.non_negative(name, getattr(self, name))
        if not self.gain >= 1:
            raise ValueError(f"expected gain to be 1 or more, got {self.gain!r}")

    @property
    def sizes(self) -> dict[str, object]:
        """Return the sizes as the model registry takes them."""
        names = ("channels", "flow_features", "windows", "cost_radius", "repeats", "squarings")
        return {name: getattr(self, name) for name in names}

    def phase(self, objective: str) -> FlowConfig:
        """Return the same training with another objective."""
        return dataclasses.replace(self, loss=dataclasses.replace(self.loss, objective=objective))


def _check_range(name: str, pair: tuple[float, float]) -> None:
    if not 0 < pair[0] <= pair[1]:
        raise ValueError(f"expected {name} as 0 < low <= high, got {pair}")


def first_stage(config: FlowConfig, *, steps: int) -> FlowConfig:
    """Return the first part of the training for a release: every level once, which is the cheapest step."""
    return dataclasses.replace(
        config, steps=steps, repeats=1, loss=FlowLossConfig(levels=(0.1, 0.2, 0.3, 1.0))
    )


def second_stage(config: FlowConfig, *, steps: int) -> FlowConfig:
    """Return the second part: the finest level is repeated, motion is steeper, and scenes are new."""
    motion = dataclasses.replace(config.motion, still=0.2, vector_px=(1.0, 8.0), sigma_px=(14.0, 100.0))
    optimizer = dataclasses.replace(config.optimizer, learning_rate=1e-3, warmup_steps=20)
    return dataclasses.replace(
        config,
        steps=steps,
        repeats=2,
        scenes=100,
        motion=motion,
        optimizer=optimizer,
        seed=config.seed + 1,
        log_every=25,
        checkpoint_every=100,
    )
