"""From a name and plain sizes to a module, and back: what configs and weight files carry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from dps_jax import _checks
from dps_jax.models.artefact_features import ArtefactFeatures
from dps_jax.models.flow_unet import FlowUNet
from dps_jax.models.res_u_dbpn import ResUDBPN
from dps_jax.models.res_u_net import ResUNet
from dps_jax.models.ring_reader import RingReader
from dps_jax.models.sim_u_net import SimUNet

MODELS: dict[str, type[nn.Module]] = {
    "artefact_features": ArtefactFeatures,
    "flow_unet": FlowUNet,
    "res_u_dbpn": ResUDBPN,
    "res_u_net": ResUNet,
    "ring_reader": RingReader,
    "sim_u_net": SimUNet,
}


def _size_names(module: type[nn.Module]) -> list[str]:
    return [f.name for f in dataclasses.fields(module) if f.name not in ("parent", "name")]


def build(name: str, sizes: Mapping[str, Any]) -> Any:
    """Make the network ``name`` with the given sizes; lists become tuples.

    Raises
    ------
    ValueError
        For an unknown network or an unknown size.
    """
    _checks.one_of("model", name, tuple(MODELS))
    known = _size_names(MODELS[name])
    unknown = sorted(set(sizes) - set(known))
    if unknown:
        raise ValueError(f"expected sizes of {name} among {', '.join(known)}, got {', '.join(unknown)}")
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()}
    return MODELS[name](**frozen)


def config_of(module: nn.Module) -> tuple[str, dict[str, Any]]:
    """Return the name and sizes that :func:`build` makes ``module`` from, ready for JSON."""
    for name, kind in MODELS.items():
        if type(module) is kind:
            sizes = {k: getattr(module, k) for k in _size_names(kind)}
            return name, {k: list(v) if isinstance(v, tuple) else v for k, v in sizes.items()}
    raise ValueError(f"expected a registered network, got {type(module).__name__}")
