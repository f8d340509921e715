"""Deconvolution by untrained networks fitted to one image: SelfDeblur, W-DIP, and a known kernel.

One network draws the sharp image, another the blur kernel (``models.deep_prior``), and both are fitted until their
convolution is the image (SelfDeblur: Ren et al. 2020). W-DIP (Bredell et al. 2023) guides them by a Wiener-filtered
image, whose own kernel is fitted beside them. With a kernel that is known only the image is drawn (Ulyanov, Vedaldi
and Lempitsky 2018). A blind result is known up to a shift, which image and kernel share in opposite directions.

All is fitted, so it lives here and not with the classical ``solvers``. Schedules are the published ones, stretched to
the number of iterations. Call ``step`` from Python: XLA's convolutions on a CPU are ten times slower inside a loop of
its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dps_jax import _checks
from dps_jax.losses.fidelity import l2_loss, ssim
from dps_jax.models.deep_prior import KernelNetwork, SkipNetwork
from dps_jax.operators.convolve import check_kernel, convolve
from dps_jax.optics.psf import gaussian_psf
from dps_jax.solvers.wiener import wiener
from dps_jax.typing import Array, Params

State = dict[str, Any]

_IMAGE_CODES, _KERNEL_CODES = 8, 200
# The codes are uniform below 0.1 and shaken a little at every step.
_CODE, _SHAKE = 0.1, 1e-3
_IMAGE_RATE, _KERNEL_RATE = 1e-2, 1e-4
# The kernel has to travel as far in fewer steps; beyond this many times the published rate it overshoots.
_PUBLISHED_ITERATIONS, _FASTEST_KERNEL = 5000, 10.0
# In parts of the iterations: squared error first, SSIM from here on; learning rates halved at each of these.
_SSIM_FROM = 0.2
_HALVED_AT = (0.4, 0.6, 0.8)
# W-DIP: weights of the images' and the kernels' agreement and of the guide's own squared norm; noise over signal of
# the Wiener filter; the first guide's standard deviation over the kernel's side less one; the guide's learning rate,
# which grows tenfold after each of these numbers of steps for every ten pixels of the kernel.
_AGREE_IMAGES, _AGREE_KERNELS, _GUIDE_NORM = 1e-3, 1e-4, 1e-3
_GUIDE_NOISE = 0.025
_GUIDE_WIDTH = 1 / 3
_GUIDE_RATE, _GUIDE_GROWS_AT = 1e-6, (70, 120, 170)


class Deblurred(NamedTuple):
    """The sharp image ``(y, x)``, the kernel ``(ky, kx)``, and the loss of the last step."""

    image: Array
    kernel: Array
    loss: Array


@dataclass(frozen=True)
class DeepPrior:
    """Sizes and length of a fit; the defaults are published, and take a GPU."""

    kernel_px: int
    """Side of the kernel in px, odd; at least as wide as the blur."""
    iterations: int = 5000
    features: int = 128
    levels: int = 5
    guided: bool = False
    """False for SelfDeblur, True for W-DIP."""

    def __post_init__(self) -> None:
        for name in ("kernel_px", "iterations", "features", "levels"):
            _checks.positive_integer(name, getattr(self, name))
        if self.kernel_px % 2 == 0 or self.kernel_px < 3:
            raise ValueError(f"expected kernel_px to be odd and 3 or more, got {self.kernel_px}")


class Fit(NamedTuple):
    """``init(key, image)`` makes a state, ``step`` advances it by one iteration, ``result`` reads it; all three pure.

    ``init(key, image, psf)`` for a known kernel. The image, ``(y, x)`` between 0 and 1 where 1 is the brightest value
    that the sharp image may have, travels in the state, so that one compiled step serves all images of a shape.
    """

    init: Callable[..., State]
    step: Callable[[State], State]
    result: Callable[[State], Deblurred]


def make_fit(shape: tuple[int, ...], prior: DeepPrior, *, psf_shape: tuple[int, ...] | None = None) -> Fit:
    """Return the fit of untrained networks to one image.

    Parameters
    ----------
    shape
        Of the image, ``(y, x)``.
    prior
        Sizes and length.
    psf_shape
        Shape ``(ky, kx)`` of the kernel, odd sides, where it is known; then nothing is guided.

    Returns
    -------
    A :class:`Fit`. The result's image has the shape of the given one; its light is whatever the fit found.

    Raises
    ------
    ValueError
        For an image that is not 2D, or is smaller than the kernel or than SSIM's window, or for a kernel with an even
        side.
    """
    if len(shape) != 2:
        raise ValueError(f"expected an image (y, x), got shape {shape}")
    if psf_shape is not None:
        check_kernel(jnp.zeros(psf_shape))
    kernel_shape = (prior.kernel_px, prior.kernel_px) if psf_shape is None else psf_shape
    least = max(2 * max(kernel_shape), 11)
    if min(shape) < least:
        raise ValueError(
            f"expected an image of at least {least} px a side for this kernel, got shape {shape}"
        )
    multiple = 2**prior.levels
    # The camera sees light from as far outside as the kernel reaches; the network needs multiples of its coarsest grid.
    sides = [-(-(n + k - 1) // multiple) * multiple for n, k in zip(shape, kernel_shape, strict=True)]
    starts = [(s - n) // 2 for s, n in zip(sides, shape, strict=True)]
    inner = tuple(slice(a, a + n) for a, n in zip(starts, shape, strict=True))
    painter = SkipNetwork(features=prior.features, levels=prior.levels)
    lens = KernelNetwork((prior.kernel_px, prior.kernel_px))
    optimizer = _optimizer(prior.iterations)
    guide = _Guide(prior.kernel_px, prior.iterations) if prior.guided and psf_shape is None else None

    def init(key: Array, image: Array, psf: Array | None = None) -> State:
        a, b, c, d, rest = jax.random.split(key, 5)
        code = {"image": _CODE * jax.random.uniform(a, (1, *sides, _IMAGE_CODES))}
        params = {"image": painter.init(b, code["image"])["params"]}
        given = {"image": jnp.asarray(image, jnp.float32)}
        if psf is None:
            code["kernel"] = _CODE * jax.random.uniform(c, (_KERNEL_CODES,))
            params["kernel"] = lens.init(d, code["kernel"])["params"]
        else:
            given["psf"] = jnp.asarray(psf, jnp.float32)
        state = {"given": given, "params": params, "opt_state": optimizer.init(params), "code": code}
        state |= {"key": rest, "step": jnp.zeros((), jnp.int32), "loss": jnp.zeros(())}
        return state | ({"guide": guide.init()} if guide else {})

    def draw(params: Params, code: Array, state: State) -> tuple[Array, Array]:
        kernel = state["given"].get("psf")
        if kernel is None:
            kernel = lens.apply({"params": params["kernel"]}, state["code"]["kernel"])
        return painter.apply({"params": params["image"]}, code)[0, ..., 0], kernel

    def step(state: State) -> State:
        late, image = state["step"] >= _SSIM_FROM * prior.iterations, state["given"]["image"]
        shaken = jax.random.normal(jax.random.fold_in(state["key"], state["step"]), (1, *sides, _IMAGE_CODES))
        code = state["code"]["image"] + _SHAKE * shaken
        drawn, pull_back = jax.vjp(lambda p: draw(p, code, state), state["params"])
        new = dict(state)
        if guide:
            new["guide"] = guide.step(state["guide"], image, (drawn[0][inner], drawn[1]), late)

        def misfit(drawn: tuple[Array, Array]) -> Array:
            error = _distance(convolve(*drawn)[inner], image, late)
            if guide:
                seen = (drawn[0][inner], drawn[1])
                error = error + guide.agreement(new["guide"]["kernel"], image, seen, late)
            return error

        loss, by_drawn = jax.value_and_grad(misfit)(drawn)
        update, new["opt_state"] = optimizer.update(pull_back(by_drawn)[0], state["opt_state"])
        new["params"] = optax.apply_updates(state["params"], update)
        return new | {"step": state["step"] + 1, "loss": loss}

    def result(state: State) -> Deblurred:
        drawn, kernel = draw(state["params"], state["code"]["image"], state)
        return Deblurred(drawn[inner], kernel, state["loss"])

    return Fit(init, step, result)


def _optimizer(iterations: int) -> optax.GradientTransformation:
    def rate(peak: float) -> optax.Schedule:
        return optax.piecewise_constant_schedule(peak, {int(f * iterations): 0.5 for f in _HALVED_AT})

    faster = min(max(_PUBLISHED_ITERATIONS / iterations, 1.0), _FASTEST_KERNEL)
    rules = {"image": optax.adam(rate(_IMAGE_RATE)), "kernel": optax.adam(rate(faster * _KERNEL_RATE))}
    return optax.multi_transform(rules, lambda params: {name: name for name in params})


def _distance(image: Array, reference: Array, late: Array) -> Array:
    return jnp.where(late, 1 - ssim(image, reference, data_range=1.0), l2_loss(image, reference))


class _Guide:
    """W-DIP's second kernel, and the image that a Wiener filter makes with it."""

    def __init__(self, kernel_px: int, iterations: int) -> None:
        self.reach = kernel_px // 2
        self.first = gaussian_psf(sigma_px=_GUIDE_WIDTH * (kernel_px - 1), size=kernel_px)
        stretch = iterations / _PUBLISHED_ITERATIONS * (kernel_px - 1) / 10
        grows = {max(1 + i, int(stretch * at)): 10.0 for i, at in enumerate(_GUIDE_GROWS_AT)}
        self.optimizer = optax.adam(optax.piecewise_constant_schedule(_GUIDE_RATE, grows))

    def init(self) -> State:
        return {"kernel": self.first, "opt_state": self.optimizer.init(self.first)}

    def agreement(self, kernel: Array, image: Array, drawn: tuple[Array, Array], late: Array) -> Array:
        """Weigh how far the guide's kernel and image are from the drawn ones, at the shift that suits the kernels."""
        kernel = _unit(kernel)
        shift, apart = self._best_shift(kernel, drawn[1])
        sharpened = jnp.abs(wiener(image, kernel, noise_to_signal=_GUIDE_NOISE))
        r, (height, width) = self.reach, image.shape
        # If the drawn kernel is the guide's moved by -d, the drawn image is the sharpened one moved by +d.
        moved = jax.lax.dynamic_slice(
            sharpened, (r - shift[0], r - shift[1]), (height - 2 * r, width - 2 * r)
        )
        return _AGREE_IMAGES * _distance(moved, drawn[0][r:-r, r:-r], late) + _AGREE_KERNELS * apart

    def step(self, state: State, image: Array, drawn: tuple[Array, Array], late: Array) -> State:
        def cost(kernel: Array) -> Array:
            return self.agreement(kernel, image, drawn, late) + _GUIDE_NORM * jnp.sum(_unit(kernel) ** 2)

        update, opt_state = self.optimizer.update(jax.grad(cost)(state["kernel"]), state["opt_state"])
        return {"kernel": state["kernel"] + update, "opt_state": opt_state}

    def _best_shift(self, kernel: Array, drawn: Array) -> tuple[Array, Array]:
        """Return the shift ``d`` that makes ``kernel[u + d]`` most like ``drawn[u]``, and their squared distance."""
        r, side = self.reach, kernel.shape[0]
        padded = jnp.pad(kernel, r)
        shifts = jnp.stack(jnp.meshgrid(*2 * [jnp.arange(-r, r + 1)], indexing="ij"), -1).reshape(-1, 2)

        def apart(shift: Array) -> Array:
            window = jax.lax.dynamic_slice(padded, (r + shift[0], r + shift[1]), (side, side))
            return jnp.sum((_unit(window) - drawn) ** 2)

        distances = jax.vmap(apart)(shifts)
        best = jnp.argmin(jax.lax.stop_gradient(distances))
        return shifts[best], distances[best]


def _unit(kernel: Array) -> Array:
    positive = jnp.abs(kernel)
    return positive / jnp.maximum(jnp.sum(positive), 1e-12)
