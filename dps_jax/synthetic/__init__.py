"""Scenes with known truth (NumPy only): structures, backgrounds and resolution targets."""

from dps_jax.synthetic import background, structures, targets
from dps_jax.synthetic.background import haze, illumination, out_of_focus
from dps_jax.synthetic.structures import (
    FAMILIES,
    TRAINING_FAMILIES,
    WITHHELD_FAMILIES,
    moving_scene,
    scene,
    training_scene,
)
from dps_jax.synthetic.targets import (
    DotPair,
    LinePair,
    line_pairs,
    random_dots,
    random_line_pairs,
    siemens_star,
)

__all__ = [
    "FAMILIES",
    "TRAINING_FAMILIES",
    "WITHHELD_FAMILIES",
    "DotPair",
    "LinePair",
    "background",
    "haze",
    "illumination",
    "line_pairs",
    "moving_scene",
    "out_of_focus",
    "random_dots",
    "random_line_pairs",
    "scene",
    "siemens_star",
    "structures",
    "targets",
    "training_scene",
]
