"""Scenes with known truth (NumPy only): structures, backgrounds, targets, movies that move, artefacts of methods."""

from dps_jax.synthetic import artefacts, background, deformations, structures, targets, two_photon
from dps_jax.synthetic.artefacts import ARTEFACTS, add_artefact
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
    "ARTEFACTS",
    "FAMILIES",
    "TRAINING_FAMILIES",
    "WITHHELD_FAMILIES",
    "DotPair",
    "LinePair",
    "add_artefact",
    "artefacts",
    "background",
    "deformations",
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
    "two_photon",
]
