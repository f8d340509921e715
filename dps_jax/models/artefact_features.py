"""A small relative of VGG that knows structures from artefacts: the eye of the perceptual loss.

Trained to tell the families of structures and the kinds of artefacts apart, its layers respond to what makes an image
look like the one or the other; its own answers are then of no further use.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from dps_jax.models.vgg import conv_stages, layer_names
from dps_jax.typing import Array


class ArtefactFeatures(nn.Module):
    """Stages of 3x3 convolutions, as VGG's, with two classifiers on the means of the last features.

    Parameters
    ----------
    channels
        Features per stage, finest first.
    counts
        Convolutions per stage.
    families, kinds
        Number of families of structures, and of kinds of artefacts with "none" among them.

    Notes
    -----
    Source: Simonyan and Zisserman 2015 (the stages), Lin et al. 2014 (classifiers on means over the image).
    """

    channels: tuple[int, ...] = (16, 24, 32, 48)
    counts: tuple[int, ...] = (2, 2, 3, 2)
    families: int = 10
    kinds: int = 8

    @nn.compact
    def __call__(self, image: Array) -> dict[str, Array]:
        """Map ``(b, y, x, 1)`` to the features of every layer, and the logits ``(b, n)`` "families" and "kinds".

        Raises
        ------
        ValueError
            For an image of other axes or too small for the number of stages.
        """
        if image.ndim != 4 or image.shape[-1] != 1 or min(image.shape[1:3]) < self.grid_multiple:
            raise ValueError(
                f"expected images (batch, y, x, 1) of at least {self.grid_multiple} px a side, "
                f"got shape {image.shape}"
            )
        features = conv_stages(image, self.channels, self.counts, self.layers[-1])
        means = jnp.mean(features[self.layers[-1]], axis=(1, 2))
        for name, count in (("families", self.families), ("kinds", self.kinds)):
            features[name] = nn.Dense(count, name=name)(means)
        return features

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in order."""
        return layer_names(self.counts)

    @property
    def grid_multiple(self) -> int:
        """Smallest side of an image in px: 2 per stage after the first."""
        return 2 ** (len(self.counts) - 1)
