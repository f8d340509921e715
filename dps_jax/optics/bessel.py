"""Bessel functions of the first kind for real arguments, differentiable to any order.

Everything rests on one family, the entire functions (Jahnke and Emde 1945, "lambda functions")

    Lambda_n(v) = n! (2/v)^n J_n(v),    Lambda_n(0) = 1,    d Lambda_n / dv = -v / (2 (n+1)) Lambda_{n+1}(v),

because ``J_0 = Lambda_0``, ``J_1 = v/2 Lambda_1`` and ``jinc = Lambda_1``: no quotient is ever taken at the
origin, so values and derivatives of every order are finite there.

Below ``|v| = 12`` J_0 and J_1 are Chebyshev series whose coefficients are products of Bessel numbers
(Watson 1944, 2.6 and 5.43), ``J_0(12 cos t) = sum_k eps_k (-1)^k J_k(6)^2 cos 2kt`` and
``J_1(12 cos t) = 2 sum_k (-1)^k J_k(6) J_{k+1}(6) cos (2k+1)t``; above it they are Hankel's asymptotic
series (DLMF 10.17.3), whose first neglected term is there below 1e-8.
"""

from __future__ import annotations

from functools import partial
from math import factorial

import jax
import jax.numpy as jnp

from dps_jax.typing import Array, ArrayLike

_SPLIT = 12.0


def _bessel_number(order: int, x: float) -> float:
    """Return J_order(x) by its power series; exact to double precision for x = 6."""
    terms = (
        (-1) ** k * (x / 2) ** (2 * k + order) / (factorial(k) * factorial(k + order)) for k in range(40)
    )
    return sum(terms)


_AT_SIX = [_bessel_number(k, _SPLIT / 2) for k in range(18)]
_J0_SERIES = [(1 if k == 0 else 2) * (-1) ** k * _AT_SIX[k] ** 2 for k in range(17)]
_J1_SERIES = [2 * (-1) ** k * _AT_SIX[k] * _AT_SIX[k + 1] for k in range(17)]


def _hankel_coefficients(order: int, count: int) -> list[float]:
    """Return a_k of DLMF 10.17.1 for k = 0 .. count-1."""
    values = [1.0]
    for k in range(1, count):
        values.append(values[-1] * (4 * order**2 - (2 * k - 1) ** 2) / (8 * k))
    return values


def _chebyshev_even(coefficients: list[float], u: Array) -> Array:
    """Sum c_k T_2k(s) by Clenshaw's recurrence, given u = 2 s^2 - 1, since T_2k(s) = T_k(u)."""
    ahead, now = jnp.zeros_like(u), jnp.zeros_like(u)
    for c in coefficients[:0:-1]:
        ahead, now = now, 2 * u * now - ahead + c
    return u * now - ahead + coefficients[0]


def _chebyshev_odd_over_s(coefficients: list[float], u: Array) -> Array:
    """Sum c_k T_{2k+1}(s) / s: T_{2k+1}(s) = s (U_k(u) - U_{k-1}(u)) with the second-kind U of u = 2 s^2 - 1."""
    ahead, now = jnp.zeros_like(u), jnp.zeros_like(u)
    for c in coefficients[::-1]:
        ahead, now = now, 2 * u * now - ahead + c
    return now - ahead


def _hankel(order: int, v: Array) -> Array:
    """Evaluate J_order (0 or 1) of v >= 12 by Hankel's expansion."""
    a = _hankel_coefficients(order, 10)
    inverse_square = 1 / (v * v)
    p, q = jnp.zeros_like(v), jnp.zeros_like(v)
    for k in range(4, -1, -1):
        p = (-1) ** k * a[2 * k] + inverse_square * p
        q = (-1) ** k * a[2 * k + 1] + inverse_square * q
    q = q / v
    # cos and sin of v - pi/4 - order pi/2, written out so that no rounding of the difference enters.
    cosine, sine = jnp.cos(v), jnp.sin(v)
    plus, minus = cosine + sine, sine - cosine
    wave = plus * p - minus * q if order == 0 else minus * p + plus * q
    return wave / jnp.sqrt(jnp.pi * v)


def _j0_and_lambda1(v: Array) -> tuple[Array, Array]:
    """Return J_0 and Lambda_1 = 2 J_1(v) / v on all reals."""
    size = jnp.abs(v)
    near = jnp.minimum(size, _SPLIT)
    u = 2 * (near / _SPLIT) ** 2 - 1
    far = jnp.maximum(size, _SPLIT)
    j0_value = jnp.where(size < _SPLIT, _chebyshev_even(_J0_SERIES, u), _hankel(0, far))
    near_lambda = _chebyshev_odd_over_s(_J1_SERIES, u) * (2 / _SPLIT)
    return j0_value, jnp.where(size < _SPLIT, near_lambda, 2 * _hankel(1, far) / far)


def _lambda_series(n: int, v: Array) -> Array:
    """Sum the power series of Lambda_n; for |v| below 2 + n the terms fall and no digits are lost."""
    quarter = -0.25 * v * v
    total, term = jnp.ones_like(v), jnp.ones_like(v)
    for k in range(1, 16):
        term = term * quarter / (k * (n + k))
        total = total + term
    return total


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _lambda(n: int, v: Array) -> Array:
    lower, upper = _j0_and_lambda1(v)
    if n == 0:
        return lower
    # Upward recurrence J_{m+1} = 2 m J_m / v - J_{m-1}, rewritten for Lambda; stable where v > m.
    switch = 2.0 + n
    square = jnp.maximum(v * v, switch**2)
    for m in range(1, n):
        lower, upper = upper, 4 * m * (m + 1) / square * (upper - lower)
    return upper if n == 1 else jnp.where(jnp.abs(v) < switch, _lambda_series(n, v), upper)


@_lambda.defjvp
def _lambda_jvp(n: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (v,), (dv,) = primals, tangents
    return _lambda(n, v), -v / (2 * (n + 1)) * _lambda(n + 1, v) * dv


def _as_float(v: ArrayLike) -> Array:
    v = jnp.asarray(v)
    return v if jnp.issubdtype(v.dtype, jnp.floating) else v.astype(jnp.float32)


def j0(v: ArrayLike) -> Array:
    """Bessel function of the first kind of order 0.

    Parameters
    ----------
    v
        Real array of any shape, dimensionless. Infinite arguments give NaN.

    Returns
    -------
    Array of the shape of ``v``; float32 within 3e-6 of the exact value for ``|v| <= 1000``.
    """
    return _lambda(0, _as_float(v))


def j1(v: ArrayLike) -> Array:
    """Bessel function of the first kind of order 1; shapes and accuracy as for :func:`j0`."""
    v = _as_float(v)
    return 0.5 * v * _lambda(1, v)


def jinc(v: ArrayLike) -> Array:
    """Return ``2 J1(v) / v``, which is 1 at the origin; its square is the Airy pattern (Airy 1835)."""
    return _lambda(1, _as_float(v))
