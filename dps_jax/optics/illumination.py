"""Structured illumination: the stripes of a SIM microscope, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from dps_jax.typing import Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Illumination:
    """Stripes of a SIM acquisition: ``I = 1 + sum_m a_m cos(m (2 pi p.r + phase))`` for each angle and frame.

    Interference of two beams has one order, ``m = 1`` (2D-SIM); that of three has two, of which the second has the
    fine stripes (3D-SIM). The position ``r`` is (y, x) in camera pixels from the centre of the first pixel.

    Parameters
    ----------
    wavevectors
        ``(angles, 2)``: ``p`` as (y, x) in cycles per camera pixel; of the first order.
    phases_rad
        ``(angles, phases)``, one per frame; of the first order.
    modulation
        ``(angles, orders)``: depths ``a_m``, 1 where the first order's stripes go down to darkness.

    Raises
    ------
    ValueError
        For arrays that do not fit each other.

    Notes
    -----
    Source: Gustafsson 2000; Gustafsson et al. 2008 (three beams). The fields are pytree leaves: images are
    differentiable with respect to each.
    """

    wavevectors: Array
    phases_rad: Array
    modulation: Array

    def __post_init__(self) -> None:
        leaves = (self.wavevectors, self.phases_rad, self.modulation)
        if not all(hasattr(leaf, "shape") for leaf in leaves):  # a pytree of something else than arrays
            return
        shapes = [jnp.shape(leaf) for leaf in leaves]
        fits = all(len(s) == 2 for s in shapes) and shapes[0][1] == 2 and len({s[0] for s in shapes}) == 1
        if not fits:
            raise ValueError(
                "expected wavevectors (angles, 2), phases_rad (angles, phases) and modulation (angles, orders), "
                f"got shapes {shapes[0]}, {shapes[1]} and {shapes[2]}"
            )
        if shapes[1][1] < 2 * shapes[2][1] + 1:
            raise ValueError(
                f"expected at least {2 * shapes[2][1] + 1} phases to tell {shapes[2][1]} orders apart, "
                f"got {shapes[1][1]}"
            )

    @property
    def orders(self) -> int:
        """Number of orders: 1 for two beams, 2 for three."""
        return int(jnp.shape(self.modulation)[1])

    @property
    def period_px(self) -> Array:
        """Period of the finest stripes in camera pixels, one per angle."""
        return 1 / (self.orders * jnp.linalg.norm(jnp.asarray(self.wavevectors), axis=1))

    @property
    def angle_rad(self) -> Array:
        """Direction of the wavevector from the x axis towards the y axis, one per angle."""
        p = jnp.asarray(self.wavevectors)
        return jnp.arctan2(p[:, 0], p[:, 1])
