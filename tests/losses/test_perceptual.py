"""Perceptual losses are the sums of Johnson et al. 2016, written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.losses import feature_loss, gram_matrix, style_loss

SHAPES = [(2, 6, 5, 3), (2, 3, 2, 4)]


@pytest.fixture
def features(rng):
    return tuple([rng.standard_normal(s).astype(np.float32) for s in SHAPES] for _ in range(2))


def loops(ours, theirs, weights, *, style):
    """Sum over pixels and channels one by one, in float64."""
    totals = np.zeros(2)
    for n in range(2):
        for a, b, w in zip(ours, theirs, weights, strict=True):
            height, width, channels = a.shape[1:]
            size = height * width * channels
            if not style:
                squares = [
                    (float(a[n, i, j, c]) - float(b[n, i, j, c])) ** 2
                    for i in range(height)
                    for j in range(width)
                    for c in range(channels)
                ]
                totals[n] += w * sum(squares) / size
                continue
            for c in range(channels):
                for d in range(channels):
                    gram = [
                        sum(
                            float(f[n, i, j, c]) * float(f[n, i, j, d])
                            for i in range(height)
                            for j in range(width)
                        )
                        / size
                        for f in (a, b)
                    ]
                    totals[n] += w * (gram[0] - gram[1]) ** 2
    return totals


@pytest.mark.parametrize("weights", [None, (0.5, 3.0)])
@pytest.mark.parametrize(("loss", "style"), [(feature_loss, False), (style_loss, True)])
def test_both_are_the_published_sums(loss, style, weights, features):
    ours = loss(*([jnp.asarray(f) for f in fs] for fs in features), weights=weights)
    assert ours.shape == (2,)
    # float32 sums of at most 90 terms of order 1.
    np.testing.assert_allclose(ours, loops(*features, weights or (1.0, 1.0), style=style), rtol=2e-5)


def test_equal_features_cost_nothing_and_are_a_minimum(features):
    ours = [jnp.asarray(f) for f in features[0]]
    for loss in (feature_loss, style_loss):
        np.testing.assert_array_equal(loss(ours, ours), 0.0)
        gradient = jax.grad(lambda first, loss=loss: loss([first, ours[1]], ours).sum())(ours[0])
        # The two Gram matrices may be summed in another order under differentiation.
        np.testing.assert_allclose(gradient, 0.0, atol=1e-7)


def test_style_does_not_ask_where_and_content_does(features):
    ours = [jnp.asarray(f) for f in features[0]]
    moved = [jnp.roll(f, (1, 2), axis=(1, 2)) for f in ours]
    # The same numbers summed in another order.
    assert float(style_loss(ours, moved).max()) < 1e-10
    assert float(feature_loss(ours, moved).min()) > 0.5


def test_gram_matrix_is_symmetric_and_needs_no_batch(features):
    gram = gram_matrix(jnp.asarray(features[0][0][0]))
    assert gram.shape == (3, 3)
    np.testing.assert_array_equal(gram, gram.T)
    assert np.linalg.eigvalsh(gram).min() > 0


def test_any_leading_axes(rng):
    a, b = (jnp.asarray(rng.random((3, 2, 4, 4, 2)), jnp.float32) for _ in range(2))
    for loss in (feature_loss, style_loss):
        assert loss([a], [b]).shape == (3, 2)
        np.testing.assert_allclose(loss([a], [b])[1], loss([a[1]], [b[1]]), rtol=1e-6)


def test_refusals(features):
    a, b = ([jnp.asarray(f) for f in fs] for fs in features)
    for loss in (feature_loss, style_loss):
        with pytest.raises(ValueError, match="of one or more layers of both images, got 0 and 0"):
            loss([], [])
        with pytest.raises(ValueError, match="got 2 and 1"):
            loss(a, b[:1])
        with pytest.raises(ValueError, match=r"expected features\[1\] and reference\[1\] of one shape"):
            loss(a, [b[0], b[0]])
        with pytest.raises(ValueError, match="expected one weight for each of 2 layers, got 1"):
            loss(a, b, weights=[1.0])
        with pytest.raises(ValueError, match=r"expected features \(\.\.\., y, x, c\), got shape \(4, 2\)"):
            loss([a[0][0, 0, :4, :2]], [b[0][0, 0, :4, :2]])
    with pytest.raises(ValueError, match=r"expected features \(\.\.\., y, x, c\)"):
        gram_matrix(jnp.zeros((3, 3)))
