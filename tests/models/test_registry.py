"""A name and sizes make a module, and a module gives them back."""

import json

import flax.linen as nn
import pytest

from dps_jax.models import MODELS, ResUDBPN, build, config_of

SIZES = [
    {},
    {"channels": (8, 16), "blocks": 2, "projections": 3, "projection_features": 12},
    {"channels": (4,), "consistency_steps": 2, "iterates": (1, 4), "abbe_px": 3.0},
]


@pytest.mark.parametrize("sizes", SIZES)
def test_round_trip_through_json(sizes):
    module = ResUDBPN(**sizes)
    name, plain = config_of(module)
    assert name == "res_u_dbpn"
    assert build(name, json.loads(json.dumps(plain))) == module


def test_sizes_are_those_of_the_module():
    module = build("res_u_dbpn", {"channels": [2, 4], "projections": 2})
    assert (module.channels, module.projections, module.blocks) == ((2, 4), 2, 1)


def test_every_registered_network_can_be_built():
    for name, kind in MODELS.items():
        assert type(build(name, {})) is kind


def test_refusals():
    names = "'artefact_features', 'flow_unet', 'res_u_dbpn', 'res_u_net', 'ring_reader', 'sim_u_net'"
    with pytest.raises(ValueError, match=f"expected model to be one of {names}, got 'unet'"):
        build("unet", {})
    with pytest.raises(ValueError, match=r"expected sizes of res_u_dbpn among channels, .*got depth, width"):
        build("res_u_dbpn", {"channels": (2, 2), "width": 3, "depth": 1})
    with pytest.raises(ValueError, match="expected a registered network, got Dense"):
        config_of(nn.Dense(3))


def test_flax_s_own_fields_are_no_sizes():
    with pytest.raises(ValueError, match="got parent"):
        build("res_u_dbpn", {"parent": None})
