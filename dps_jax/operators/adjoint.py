"""The adjoint of any linear operator, by transposition of its trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dps_jax.typing import Array


def adjoint(
    operator: Callable[[Array], Array], shape: tuple[int, ...], *, dtype: Any = jnp.float32
) -> Callable[[Array], Array]:
    """Return ``A*`` of a real linear ``A`` that takes arrays of ``shape``, so that ``<Ax, y> = <x, A*y>``.

    Raises
    ------
    Whatever JAX raises for an operator that is not linear.
    """
    transposed = jax.linear_transpose(operator, jax.ShapeDtypeStruct(shape, dtype))
    return lambda y: transposed(y)[0]
