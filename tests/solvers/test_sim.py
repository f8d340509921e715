"""SIM: stripes found without a hint, and objects reconstructed, against simulated acquisitions of known truth."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.metrics import out_of_band_correlation
from dps_jax.optics import OpticalSystem, RadialOtf, incoherent_otf, pixel_otf
from dps_jax.pipelines.simulate_sim import acquire_sim
from dps_jax.solvers import (
    estimate_illumination,
    make_misfit,
    noise_to_signal,
    separate_orders,
    sim_richardson_lucy,
    sim_wiener,
)
from dps_jax.solvers.sim_reconstruction import per_order, periodic_frames

SYSTEM = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=65.0)
ABBE_PX = float(SYSTEM.abbe_px)
OTF = RadialOtf.airy(ABBE_PX)


def errors(found, truth, side):
    """Relative error of each period, and of each frame's phase in the middle of the field, in degrees."""
    middle = (side - 1) / 2
    period, phase = [], []
    for a in range(len(truth.wavevectors)):
        p, q = (np.asarray(i.wavevectors[a], float) for i in (truth, found))
        phi, psi = (np.asarray(i.phases_rad[a], float) for i in (truth, found))
        if p @ q < 0:  # the same stripes, counted the other way
            q, psi = -q, -psi
        period.append(abs(np.linalg.norm(p) / np.linalg.norm(q) - 1))
        off = psi - phi + 2 * np.pi * middle * (q - p).sum()
        phase.append(np.abs(np.degrees(np.angle(np.exp(1j * off)))).max())
    return np.array(period), np.array(phase)


def test_orders_are_separated_exactly(rng):
    # Any phases that differ: the frames of known bands give the bands back.
    phases = np.array([0.2, 1.5, 2.9, 4.4, 5.5])
    bands = rng.normal(size=(3, 6, 6)) + 1j * rng.normal(size=(3, 6, 6))
    bands[0] = bands[0].real
    frames = np.stack(
        [bands[0].real + 2 * sum((np.exp(1j * m * f) * bands[m]).real for m in (1, 2)) for f in phases]
    )
    found = separate_orders(jnp.asarray(frames, jnp.float32), jnp.asarray(phases, jnp.float32), orders=2)
    np.testing.assert_allclose(np.asarray(found), bands, atol=2e-5)  # a 5x5 system of float32


def test_radial_otf_is_the_pupil_s():
    f = np.linspace(0, 0.5, 40).astype(np.float32)
    # Linear interpolation of 512 samples errs by the curvature times (1/512)^2 / 8; steepest at the cut-off.
    np.testing.assert_allclose(OTF(f), incoherent_otf(f, cutoff=1 / ABBE_PX), atol=1e-4)
    assert float(pixel_otf(0.5, 0.0)) == pytest.approx(2 / np.pi)


@pytest.mark.parametrize("seed", [5000, 5001, 5002])
def test_stripes_are_found_at_a_shallow_depth(seed):
    # The promise: period within 0.05 % and phase within 3 degrees at a depth of 0.3.
    made = acquire_sim(seed, SYSTEM, shape=(256, 256), photons=1000, modulation=0.3)
    found = estimate_illumination(made.frames, OTF)
    assert all(found.found)
    period, phase = errors(found.illumination, made.illumination, 256)
    assert period.max() < 5e-4
    assert phase.max() < 3.0
    # The depth's error is that of a mean over the overlap of two bands; 10 % is what reconstruction forgives.
    np.testing.assert_allclose(found.illumination.modulation, 0.3, rtol=0.1)


def test_three_beams_have_two_orders():
    made = acquire_sim(5001, SYSTEM, shape=(192, 192), photons=1000, modulation=(0.4, 0.8), phases=5)
    found = estimate_illumination(made.frames, OTF, orders=2)
    period, phase = errors(found.illumination, made.illumination, 192)
    assert period.max() < 1e-3
    assert phase.max() < 3.0
    np.testing.assert_allclose(found.illumination.modulation, made.illumination.modulation, rtol=0.1)


def test_even_light_has_no_stripes():
    made = acquire_sim(5000, SYSTEM, shape=(128, 128), photons=300, modulation=0.0)
    assert not any(estimate_illumination(made.frames, OTF).found)


def test_unequal_steps_are_seen_frame_by_frame_and_refined_by_the_misfit():
    made = acquire_sim(5003, SYSTEM, shape=(128, 128), photons=1000, phase_error_rad=0.5)
    found = estimate_illumination(made.frames, OTF).illumination
    _, phase = errors(found, made.illumination, 128)
    assert phase.max() < 15.0  # equal steps would be off by 0.5 rad = 29 degrees, and more in the worst frame
    # Without noise, which an object fitted to wrong phases takes up as well as any.
    misfit = make_misfit(made.expected, OTF)
    assert float(misfit(made.illumination)) < float(misfit(found))
    # Downhill is where the truth is.
    gradient = jax.grad(misfit)(found)
    towards = np.asarray(made.illumination.phases_rad) - np.asarray(found.phases_rad)
    towards = np.angle(np.exp(1j * towards))
    flipped = np.sum(np.asarray(made.illumination.wavevectors) * np.asarray(found.wavevectors), 1) < 0
    assert not flipped.any()
    assert np.sum(np.asarray(gradient.phases_rad) * towards) < 0


def test_reconstruction_minimises_what_it_says():
    # The closed form against the gradient of |D - A x|^2 + w |x|^2, by JAX through the periodic microscope.
    made = acquire_sim(5000, SYSTEM, shape=(64, 64), photons=1000)
    frames = jnp.asarray(made.frames)
    from dps_jax.solvers.sim_reconstruction import wide_estimate

    otfs = per_order(OTF, 1)
    x = wide_estimate(frames, (0, 0), made.illumination, otfs, noise_to_signal=1e-2)

    def cost(x, w):
        return jnp.sum((periodic_frames(x, made.illumination, otfs, (0, 0)) - frames) ** 2) / 3 + w * jnp.sum(
            x**2
        )

    # w is relative to the largest weight. A fine pixel's light is counted at a camera pixel's sixteen-fold square.
    fine = jnp.zeros((128, 128)).at[0, 0].set(1.0)
    response = jax.grad(lambda v: jnp.sum(periodic_frames(v, made.illumination, otfs, (0, 0)) ** 2) / 6)(fine)
    weight = jnp.fft.fft2(response).real
    gradient = jax.grad(cost)(x, 1e-2 * float(weight.max()))
    at_zero = jax.grad(cost)(jnp.zeros_like(x), 0.0)
    # ``wide_estimate`` also divides by what zero frequency keeps, 1 / (1 + w): all but that factor is the minimum.
    assert float(jnp.linalg.norm(gradient)) < 0.05 * float(jnp.linalg.norm(at_zero))


def test_wiener_keeps_light_and_is_linear():
    made = acquire_sim(5001, SYSTEM, shape=(96, 96), photons=300)
    image = np.asarray(sim_wiener(made.frames, made.illumination, OTF))
    assert image.shape == (192, 192)
    # What the borders' fading lets out and in, of a mean of nine frames.
    assert image.sum() == pytest.approx(made.frames.mean((0, 1)).sum(), rel=0.02)
    again = np.asarray(sim_wiener(3 * made.frames, made.illumination, OTF))
    np.testing.assert_allclose(again, 3 * image, rtol=1e-3, atol=1e-4 * float(image.max()))


@pytest.mark.parametrize(("solver", "least"), [(sim_wiener, 0.65), (sim_richardson_lucy, 0.85)])
def test_detail_beyond_the_cutoff_is_the_truth_s(solver, least):
    # 1 to 1.8 cut-offs. A widefield image has nothing there. The mean over 20 scenes is in experiments/sim.py; single
    # scenes scatter, and this one is 0.1 above the floor.
    made = acquire_sim(5000, SYSTEM, shape=(128, 128), photons=1000)
    options = {"noise_to_signal": 1e-3} if solver is sim_wiener else {}
    x = solver(made.frames, made.illumination, OTF, **options)
    score = float(out_of_band_correlation(x, made.truth, cutoff_cycles_px=0.5 / ABBE_PX, extension=1.8))
    assert score > least
    even = jnp.repeat(jnp.repeat(jnp.asarray(made.frames.mean((0, 1))), 2, 0), 2, 1)
    assert (
        float(out_of_band_correlation(even, made.truth, cutoff_cycles_px=0.5 / ABBE_PX, extension=1.8)) < 0.3
    )


def test_richardson_lucy_raises_the_likelihood_and_is_never_negative():
    made = acquire_sim(5002, SYSTEM, shape=(64, 64), photons=100)

    def deviance(x):
        # Without the margin's light: the periodic microscope of the estimate alone, away from the border.
        y = np.asarray(made.frames)[..., 12:-12, 12:-12]
        f = np.asarray(periodic_frames(x, made.illumination, per_order(OTF, 1), (0, 0)))[..., 12:-12, 12:-12]
        f = np.maximum(f, 1e-6)
        return float(np.mean(f - y * np.log(f)))

    values = []
    for count in (1, 3, 10, 30):
        x = sim_richardson_lucy(made.frames, made.illumination, OTF, iterations=count, accelerated=False)
        assert float(x.min()) >= 0
        values.append(deviance(x))
    assert values == sorted(values, reverse=True)


def test_the_noise_is_measured():
    # More photons, less noise over signal: in proportion, where the object is the same.
    values = [
        noise_to_signal(acquire_sim(5001, SYSTEM, photons=photons).frames, OTF) for photons in (30, 300)
    ]
    assert 5 < values[0] / values[1] < 20
    assert noise_to_signal(acquire_sim(5001, SYSTEM, photons=30).frames, RadialOtf.airy(1.4)) is None


def test_refusals():
    made = acquire_sim(5001, SYSTEM, shape=(64, 64))
    with pytest.raises(ValueError, match=r"expected frames \(3, 3, y, x\), got shape \(3, 64, 64\)"):
        sim_wiener(made.frames[0], made.illumination, OTF)
    with pytest.raises(ValueError, match="expected notch from 0 to 1, got 2"):
        sim_wiener(made.frames, made.illumination, OTF, notch=2)
    with pytest.raises(ValueError, match="expected one OTF, or 2 for orders 0 to 1, got 3"):
        sim_wiener(made.frames, made.illumination, (OTF,) * 3)
    with pytest.raises(ValueError, match="at least 5 phases"):
        estimate_illumination(made.frames, OTF, orders=2)
    with pytest.raises(ValueError, match="at least 16 Abbe periods"):
        estimate_illumination(made.frames[..., :32, :32], OTF)
    with pytest.raises(ValueError, match="a phase each"):
        separate_orders(made.frames[0], np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="iterations"):
        sim_richardson_lucy(made.frames, made.illumination, OTF, iterations=0)
    with pytest.raises(ValueError, match="expected frames"):
        sim_richardson_lucy(made.frames[0], made.illumination, OTF)


def test_gradients_reach_every_parameter():
    made = acquire_sim(5001, SYSTEM, shape=(64, 64))

    def loss(illumination):
        return jnp.mean(sim_wiener(made.frames, illumination, OTF) ** 2)

    for leaf in jax.tree.leaves(jax.grad(loss)(made.illumination)):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0
    assert dataclasses.is_dataclass(made.illumination)
