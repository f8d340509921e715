"""The chain around the extending network: what it decides, that it says so, and that it does no harm."""

import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.metrics import psnr_at_promised_resolution
from dps_jax.optics import OpticalSystem
from dps_jax.pipelines.chain import run_chain
from dps_jax.pipelines.restore import restore
from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire
from dps_jax.weights import load_network


@pytest.fixture(scope="module")
def network():
    return load_network()


def _chain(made, network, **options):
    return run_chain(made.image, DEMO_SYSTEM, network, gain=1.0, offset=0.0, background=2.0, **options)


def _score(image, made):
    abbe_px = 2 * float(DEMO_SYSTEM.abbe_px)
    return float(psnr_at_promised_resolution(jnp.asarray(image), jnp.asarray(made.truth), abbe_px=abbe_px))


def test_a_bright_image_is_left_to_the_network_to_the_last_bit(network):
    made = acquire(3000, DEMO_SYSTEM, shape=(96, 96), photons=1000, background=2.0)
    chain = _chain(made, network)
    alone = restore(made.image, DEMO_SYSTEM, network, gain=1.0, offset=0.0, background=2.0)
    np.testing.assert_array_equal(chain.restored.image, alone.image)
    assert not chain.intermediates
    (decision,) = chain.decisions
    assert decision.startswith("denoise off: noise makes")
    told = _chain(made, network, artefacts="auto").decisions[0]
    assert told.startswith("artefacts off: an image of a modulation factor of 1")


def test_few_photons_are_denoised_and_it_helps(network):
    # The gain over three withheld scenes at 3 photons is 0.4 dB with an error of 0.08 (twelve scenes).
    gains = []
    for seed in (3000, 3001, 3005):
        made = acquire(seed, DEMO_SYSTEM, photons=3, background=2.0)
        chain = _chain(made, network)
        alone = restore(made.image, DEMO_SYSTEM, network, gain=1.0, offset=0.0, background=2.0)
        assert chain.decisions[0].startswith("denoise on: noise makes")
        assert chain.intermediates["denoised"].shape == made.image.shape
        light = made.image.sum() - 2.0 * made.image.size
        assert chain.restored.image.sum() == pytest.approx(light, rel=1e-3)
        gains.append(_score(chain.restored.image, made) - _score(alone.image, made))
    assert np.mean(gains) > 0


def test_few_photons_without_a_stated_gain(network):
    """Whether the gain can be measured is asked of a stack of frames, which a single image is none of."""
    made = acquire(3000, DEMO_SYSTEM, shape=(64, 64), photons=3, background=2.0)
    chain = run_chain(made.image, DEMO_SYSTEM, network, denoising="auto")
    (decision,) = chain.decisions
    assert decision.startswith("denoise on: noise makes")
    assert chain.intermediates["denoised"].shape == (64, 64)
    assert chain.restored.image.shape == (128, 128)


def test_choices_are_obeyed_and_refused(network):
    made = acquire(3000, DEMO_SYSTEM, shape=(64, 64), photons=300, background=2.0)
    strong = _chain(made, network, denoising="strong")
    alone = restore(
        strong.intermediates["denoised"], DEMO_SYSTEM, network, gain=1.0, offset=0.0, background=2.0
    )
    np.testing.assert_array_equal(strong.restored.image, alone.image)
    off = _chain(made, network, denoising="off", artefacts="off")
    assert off.decisions == ()
    with pytest.raises(ValueError, match="denoising"):
        _chain(made, network, denoising="maybe")


def test_artefacts_are_looked_for_in_reconstructions_only(network, rng):
    from dps_jax.synthetic.artefacts import ARTEFACTS

    system = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=32.5, modulation=1.9)
    optics = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=32.5)
    made = acquire(3001, system, shape=(128, 128), photons=3000)
    clean = made.expected.astype(np.float32)
    spoilt = ARTEFACTS["speckle"](rng, clean, abbe_px=float(optics.abbe_px))
    chain = run_chain(spoilt, system, network, background=0.0, artefacts="auto")
    assert chain.decisions[0].startswith("artefacts on: ")
    mended = chain.intermediates["without_artefacts"]
    assert np.sum((mended - clean) ** 2) < np.sum((spoilt - clean) ** 2)
    assert mended.sum() == pytest.approx(spoilt.sum(), rel=1e-4)


def test_the_log_names_what_was_found(network):
    from dps_jax.synthetic.artefacts import ARTEFACTS

    system = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=32.5, modulation=1.9)
    abbe_px = float(system.abbe_px) * 1.9
    clean = acquire(3001, system, shape=(128, 128), photons=3000).expected.astype(np.float32)
    spoilt = ARTEFACTS["seams"](np.random.default_rng(1), clean, abbe_px=abbe_px, strength=0.15)
    one = run_chain(spoilt, system, network, background=0.0, artefacts="auto").decisions[0]
    assert "; gains and offsets of tiles of" in one
    assert "in plane" not in one
    # Dark planes hold nothing to change: the first that is changed is named.
    stack = run_chain(np.stack([0 * spoilt, spoilt]), system, network, background=0.0, artefacts="auto")
    assert stack.decisions[0].endswith("(in plane 2)")
