"""VGG networks as feature extractors: the inside of a classifier, as an eye for what images have in common.

Images are ``(batch, y, x, channel)``. Layers are named after Simonyan and Zisserman: ``relu3_2`` is the second of the
third stage, taken after its rectifier. No parameters come with the toolkit; :func:`load_vgg` reads those of ImageNet
from a file that torchvision's state dict was saved to.
"""

from __future__ import annotations

import os
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.io.arrays import read_arrays
from dps_jax.io.errors import UserError
from dps_jax.typing import Array, Params

# Convolutions per stage: configurations D and E.
VARIANTS: dict[str, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
# Of the training images, in red, green and blue between 0 and 1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def layer_names(counts: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of all layers, in order, of stages of so many convolutions."""
    return tuple(f"relu{stage}_{i}" for stage, count in enumerate(counts, 1) for i in range(1, count + 1))


def halve(x: Array) -> Array:
    """Take the maximum of blocks of 2x2 px; an odd last row or column is left out.

    Written as a reshape: the gradient of a windowed maximum is many times slower on a CPU.
    """
    b, y, x_px, c = x.shape
    blocks = x[:, : y // 2 * 2, : x_px // 2 * 2].reshape(b, y // 2, 2, x_px // 2, 2, c)
    return jnp.max(blocks, axis=(2, 4))


def conv_stages(x: Array, widths: tuple[int, ...], counts: tuple[int, ...], last: str) -> dict[str, Array]:
    """Return the features of every layer up to ``last``: stages of 3x3 convolutions, each on half the grid.

    To be called in the compact method of a module, whose layers these become.
    """
    features: dict[str, Array] = {}
    for stage, (width, count) in enumerate(zip(widths, counts, strict=True), 1):
        x = halve(x) if stage > 1 else x
        for i in range(1, count + 1):
            # Of the variance that a rectifier halves, the initial weights give twice as much (He et al. 2015).
            start = nn.initializers.he_normal()
            x = nn.relu(nn.Conv(width, (3, 3), kernel_init=start, name=f"conv{stage}_{i}")(x))
            features[f"relu{stage}_{i}"] = x
            if f"relu{stage}_{i}" == last:
                return features
    return features


class VGG(nn.Module):
    """The convolutions of a VGG network up to the deepest layer that is asked for.

    Parameters
    ----------
    layers
        Names of the layers whose features are wanted.
    counts
        Convolutions per stage, of :data:`VARIANTS`.
    widths
        Features per stage.

    Notes
    -----
    Source: Simonyan and Zisserman 2015, table 1.
    """

    layers: tuple[str, ...] = ("relu3_3",)
    counts: tuple[int, ...] = VARIANTS["vgg16"]
    widths: tuple[int, ...] = WIDTHS

    @nn.compact
    def __call__(self, image: Array) -> dict[str, Array]:
        """Map ``(b, y, x, 3)`` to the features ``(b, y', x', c)`` of each layer, by name.

        Raises
        ------
        ValueError
            For an unknown layer, or an image of other axes.
        """
        if image.ndim != 4 or image.shape[-1] != 3:
            raise ValueError(f"expected images (batch, y, x, 3), got shape {image.shape}")
        features = conv_stages(image, self.widths, self.counts, self.deepest)
        return {name: features[name] for name in self.layers}

    @property
    def deepest(self) -> str:
        """Name of the deepest layer that is wanted."""
        known = layer_names(self.counts)
        if not self.layers:
            raise ValueError(f"expected at least one layer among {', '.join(known)}, got none")
        for name in self.layers:
            _checks.one_of("layer", name, known)
        return max(self.layers, key=known.index)


def imagenet_input(image: Array) -> Array:
    """Bring images between 0 and 1 to what the ImageNet networks were trained on.

    Parameters
    ----------
    image
        Grey ``(b, y, x)`` or ``(b, y, x, 1)``, repeated to three channels, or ``(b, y, x, 3)`` in the order red, green,
        blue.

    Returns
    -------
    ``(b, y, x, 3)``, each channel less its mean and over its standard deviation.

    Raises
    ------
    ValueError
        For an image of other axes.
    """
    if image.ndim == 3:
        image = image[..., None]
    if image.ndim != 4 or image.shape[-1] not in (1, 3):
        raise ValueError(f"expected images (b, y, x), (b, y, x, 1) or (b, y, x, 3), got shape {image.shape}")
    mean, std = (jnp.asarray(v, image.dtype).reshape(1, 1, 1, 3) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (image - mean) / std


def load_vgg(
    path: str | os.PathLike[str], *, variant: str = "vgg16", layers: tuple[str, ...] = ("relu3_3",)
) -> tuple[VGG, Params]:
    """Read the ImageNet parameters of a VGG network from torchvision's state dict.

    Parameters
    ----------
    path
        ``.safetensors`` or ``.npz`` with ``features.0.weight`` ``(out, in, 3, 3)``, ``features.0.bias`` and so on, as
        ``torchvision.models.vgg16().state_dict()`` names them; others, such as the classifier's, are left alone.
    variant
        ``"vgg16"`` or ``"vgg19"``, without batch normalisation.
    layers
        As for :class:`VGG`; arrays below the deepest are not asked for.

    Returns
    -------
    The network and its parameters, for ``module.apply({"params": params}, imagenet_input(image))``.

    Raises
    ------
    ValueError
        For an unknown variant or layer.
    UserError
        If the file cannot be read, or lacks an array, or holds one of another shape.
    """
    _checks.one_of("variant", variant, tuple(VARIANTS))
    module = VGG(tuple(layers), VARIANTS[variant])
    shapes = _torch_shapes(module)
    arrays = read_arrays(path, [name for names in shapes.values() for name in names])
    params: dict[str, Any] = {}
    for layer, wanted in shapes.items():
        for name, shape in wanted.items():
            if arrays[name].shape != shape:
                raise UserError(
                    f"expected the array {name} of shape {shape} for {variant}, found {arrays[name].shape} "
                    f"in {path}; choose the variant that the file is of."
                )
        kernel, bias = (arrays[name] for name in wanted)
        params[layer] = {"kernel": np.transpose(kernel, (2, 3, 1, 0)), "bias": bias}
    return module, params


def _torch_shapes(module: VGG) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return, per layer of ours, the names and shapes of torchvision's weight and bias.

    There every convolution is followed by its rectifier and every stage by its pooling, all counted.
    """
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    index, inputs = 0, 3
    for stage, (width, count) in enumerate(zip(module.widths, module.counts, strict=True), 1):
        for i in range(1, count + 1):
            name = f"features.{index}"
            shapes[f"conv{stage}_{i}"] = {f"{name}.weight": (width, inputs, 3, 3), f"{name}.bias": (width,)}
            if f"relu{stage}_{i}" == module.deepest:
                return shapes
            index, inputs = index + 2, width
        index += 1
    return shapes
