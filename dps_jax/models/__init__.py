"""Networks. The only package that imports flax; inside it images are ``(batch, y, x, channel)`` float32.

A name and a plain dictionary of sizes make a module: :func:`build`. Parameters are made by ``module.init`` and
used by ``module.apply``, both pure.
"""

from dps_jax.models.artefact_features import ArtefactFeatures
from dps_jax.models.flow_unet import FlowUNet
from dps_jax.models.registry import MODELS, build, config_of
from dps_jax.models.res_u_dbpn import ResUDBPN
from dps_jax.models.res_u_net import ResUNet
from dps_jax.models.ring_reader import RingReader
from dps_jax.models.sim_u_net import SimUNet
from dps_jax.models.vgg import VGG, imagenet_input, load_vgg

__all__ = [
    "MODELS",
    "VGG",
    "ArtefactFeatures",
    "FlowUNet",
    "ResUDBPN",
    "ResUNet",
    "RingReader",
    "SimUNet",
    "build",
    "config_of",
    "imagenet_input",
    "load_vgg",
]
