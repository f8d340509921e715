"""VGG features are those of the published network, whichever library computes them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.signal import correlate2d

from dps_jax.io.errors import UserError
from dps_jax.models import VGG, imagenet_input, load_vgg
from dps_jax.models.vgg import VARIANTS, WIDTHS, halve, layer_names

# Where torchvision's list of layers has its convolutions: each is followed by a rectifier, each stage by a pooling.
PLACES = {
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}


def state_dict(variant, *, layers=None):
    """Random weights of the first layers, under torchvision's names, that keep the variance of the features."""
    rng = np.random.default_rng(8)
    widths = [w for w, count in zip(WIDTHS, VARIANTS[variant], strict=True) for _ in range(count)][:layers]
    arrays = {}
    for place, inputs, outputs in zip(PLACES[variant], (3, *widths), widths, strict=False):
        scale = np.float32(np.sqrt(2 / (9 * inputs)))
        arrays[f"features.{place}.weight"] = scale * rng.standard_normal((outputs, inputs, 3, 3), np.float32)
        arrays[f"features.{place}.bias"] = 0.1 * rng.standard_normal(outputs, np.float32)
    return arrays


@pytest.fixture
def image(rng):
    return rng.random((2, 32, 48, 3)).astype(np.float32)


def applied(path, image, **options):
    module, params = load_vgg(path, **options)
    return jax.jit(lambda i: module.apply({"params": params}, imagenet_input(i)))(jnp.asarray(image))


def test_first_layers_are_scipy_s(tmp_path, rng):
    arrays = state_dict("vgg16", layers=3)
    save_file(arrays, tmp_path / "w.safetensors")
    image = rng.random((1, 8, 11, 3)).astype(np.float32)
    names = ("relu1_1", "relu1_2", "relu2_1")
    ours = applied(tmp_path / "w.safetensors", image, layers=names)
    x = (image[0].astype(float) - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    for name, place in zip(names, PLACES["vgg16"], strict=False):
        if name == "relu2_1":  # 2x2 maxima, the odd column left out
            x = np.array(
                [[x[i : i + 2, j : j + 2].max(axis=(0, 1)) for j in range(0, 10, 2)] for i in range(0, 8, 2)]
            )
        kernel, bias = arrays[f"features.{place}.weight"], arrays[f"features.{place}.bias"]
        x = np.stack(
            [
                sum(correlate2d(x[..., i], kernel[o, i], "same") for i in range(x.shape[-1])) + bias[o]
                for o in range(len(bias))
            ],
            axis=-1,
        )
        x = np.maximum(x, 0)
        # Sums of up to 576 products of order 0.1 in float32: 576 * 6e-8 * 0.1 per layer, three layers.
        np.testing.assert_allclose(ours[name][0], x, atol=2e-5)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_every_layer_is_torch_s(variant, tmp_path, image):
    torch = pytest.importorskip(
        "torch", reason="torch is not installed; .venv/bin/pip install -e '.[torch-oracle]'"
    )
    arrays = state_dict(variant)
    save_file(arrays, tmp_path / "w.safetensors")
    names = layer_names(VARIANTS[variant])
    ours = applied(tmp_path / "w.safetensors", image, variant=variant, layers=names)
    assert list(ours) == list(names)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = (torch.from_numpy(image.transpose(0, 3, 1, 2).copy()) - mean) / std
    with torch.no_grad():
        for name, place in zip(names, PLACES[variant], strict=True):
            if name.endswith("_1") and name != "relu1_1":
                x = torch.nn.functional.max_pool2d(x, 2, 2)
            weights = (torch.from_numpy(arrays[f"features.{place}.{kind}"]) for kind in ("weight", "bias"))
            x = torch.relu(torch.nn.functional.conv2d(x, *weights, padding=1))
            theirs = x.numpy().transpose(0, 2, 3, 1)
            # Features of order 1; float32 sums of up to 4608 products, in another order, over up to 16 layers.
            np.testing.assert_allclose(ours[name], theirs, atol=2e-4, rtol=2e-4)


def test_torch_s_list_of_layers_has_its_convolutions_there():
    torch = pytest.importorskip(
        "torch", reason="torch is not installed; .venv/bin/pip install -e '.[torch-oracle]'"
    )
    for variant, counts in VARIANTS.items():
        layers = []
        for count in counts:
            layers += count * [torch.nn.Conv2d(1, 1, 3), torch.nn.ReLU()] + [torch.nn.MaxPool2d(2)]
        found = [i for i, layer in enumerate(layers) if isinstance(layer, torch.nn.Conv2d)]
        assert tuple(found) == PLACES[variant]


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_only_what_is_asked_for_is_read(kind, tmp_path):
    arrays = state_dict("vgg16", layers=4)
    arrays["classifier.6.bias"] = np.zeros(1000, np.float32)
    path = tmp_path / f"w.{kind}"
    np.savez(path, **arrays) if kind == "npz" else save_file(arrays, path)
    module, params = load_vgg(path, layers=("relu2_1", "relu1_2"))
    assert list(params) == ["conv1_1", "conv1_2", "conv2_1"]
    assert params["conv2_1"]["kernel"].shape == (3, 3, 64, 128)
    np.testing.assert_array_equal(
        params["conv2_1"]["kernel"][0, 2, 5, 7], arrays["features.5.weight"][7, 5, 0, 2]
    )
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
    assert jax.tree.map(lambda s: s.shape, dict(shapes)) == jax.tree.map(lambda a: a.shape, params)


def test_a_grey_image_is_one_of_three_equal_channels(image):
    grey = jnp.asarray(image[..., 0])
    thrice = imagenet_input(jnp.repeat(grey[..., None], 3, axis=-1))
    np.testing.assert_array_equal(imagenet_input(grey), thrice)
    np.testing.assert_array_equal(imagenet_input(grey[..., None]), thrice)
    # An image that is the mean of ImageNet's comes out as nothing.
    mean = jnp.broadcast_to(jnp.array([0.485, 0.456, 0.406]), (1, 2, 2, 3))
    np.testing.assert_allclose(imagenet_input(mean), 0.0, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 8, 6, 2), (2, 7, 9, 1)])
def test_halving_is_flax_s_maximum(shape, rng):
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    np.testing.assert_array_equal(halve(x), nn.max_pool(x, (2, 2), (2, 2)))


def test_files_that_do_not_fit_are_refused(tmp_path):
    good = state_dict("vgg16", layers=7)
    save_file({k: v for k, v in good.items() if k != "features.2.bias"}, tmp_path / "missing")
    with pytest.raises(
        UserError, match=r"expected the array features\.2\.bias in .*missing, found features\.0"
    ):
        load_vgg(tmp_path / "missing")
    wrong = {**good, "features.5.weight": good["features.5.weight"].transpose(2, 3, 1, 0).copy()}
    save_file(wrong, tmp_path / "wrong")
    with pytest.raises(
        UserError, match=r"expected the array features\.5\.weight of shape \(128, 64, 3, 3\) for vgg16"
    ):
        load_vgg(tmp_path / "wrong")
    save_file(good, tmp_path / "good")
    with pytest.raises(ValueError, match="expected variant to be one of 'vgg16', 'vgg19', got 'vgg11'"):
        load_vgg(tmp_path / "good", variant="vgg11")
    with pytest.raises(ValueError, match=r"expected layer to be one of 'relu1_1', .*got 'relu3_4'"):
        load_vgg(tmp_path / "good", layers=("relu3_4",))
    with pytest.raises(ValueError, match=r"expected at least one layer among relu1_1, .*got none"):
        load_vgg(tmp_path / "good", layers=())


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8, 2), (1, 1, 8, 8, 3)])
def test_images_of_other_axes_are_refused(shape, key):
    with pytest.raises(ValueError, match=r"expected images \(b, y, x\)"):
        imagenet_input(jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"expected images \(batch, y, x, 3\)"):
        VGG(("relu1_1",)).init(key, jnp.zeros(shape))
