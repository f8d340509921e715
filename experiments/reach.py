"""How far does the released network see? The overlap of tiles rests on this.

The same 64 px in the middle of noisy scenes of withheld families, restored once with all their surroundings and once
with less and less of them: the largest difference over the range of the whole, and the root mean square.

Command: ``python experiments/reach.py`` (a minute on two cores). Measured, the worst of four scenes of 10 to 1000
photons: 8 px 5e-2, 16 px 1e-2, 24 px 5e-3, 32 px 3e-4, 40 px 2e-5, 48 px 5e-6, and from there on the rounding of
float32 (4e-6). ``ResUDBPN.near_reach`` is 40 px; what the arithmetic of the layers and the
physics allow at most is 88 px.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.optics import OpticalSystem
from dps_jax.pipelines.simulate import acquire
from dps_jax.weights import load_network

SIDE, INNER, SCENES = 320, 64, ((3, 10.0), (4, 100.0), (5, 1000.0), (6, 30.0))
SURROUNDINGS_PX = (8, 16, 24, 32, 36, 40, 48, 64, 80)


def main() -> None:
    network = load_network()
    canonical = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=75.0)
    run = jax.jit(lambda image: network(image[None, :, :, None])[0, :, :, 0])
    worst = dict.fromkeys(SURROUNDINGS_PX, (0.0, 0.0))
    for seed, photons in SCENES:
        made = acquire(seed, canonical, shape=(SIDE, SIDE), photons=photons, background=2.0)
        image = (np.asarray(made.image, np.float32) - 2) / photons
        whole = np.asarray(run(jnp.asarray(image)))
        for px in SURROUNDINGS_PX:
            for y, x in ((96, 96), (160, 128)):
                part = image[y - px : y + INNER + px, x - px : x + INNER + px]
                answer = np.asarray(run(jnp.asarray(part)))[
                    2 * px : 2 * (px + INNER), 2 * px : 2 * (px + INNER)
                ]
                off = np.abs(answer - whole[2 * y : 2 * (y + INNER), 2 * x : 2 * (x + INNER)]) / np.ptp(whole)
                found = float(off.max()), float(np.sqrt(np.mean(off**2)))
                worst[px] = max(worst[px], found)
    print(f"near_reach {network.module.near_reach} px, reach {network.module.reach} px")
    for px, (largest, rms) in worst.items():
        print(f"{px:3d} px of surroundings: largest difference {largest:.1e} of the range, rms {rms:.1e}")


if __name__ == "__main__":
    main()
