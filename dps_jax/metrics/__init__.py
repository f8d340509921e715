"""Scores for reports, never trained on: against the truth, of resolution, of fidelity to the measurement.

Sharpness is easy to fake. Decorrelation and one-image FRC reward invented texture, RSP and RSE are blind to
it; only ``out_of_band_correlation`` and the line pairs, which need the truth, tell it from detail. Report
them together.
"""

from dps_jax.metrics.cutoff import spectral_cutoff
from dps_jax.metrics.decorrelation import decorrelation_curve, decorrelation_resolution
from dps_jax.metrics.fidelity import Squirrel, error_map, rse, rsp, squirrel
from dps_jax.metrics.frc import frc_curve, frc_resolution, fsc_curve, fsc_resolution
from dps_jax.metrics.image import (
    least_squares_scale,
    mae,
    ms_ssim,
    nrmse,
    percentile_normalise,
    psnr,
    ssim,
)
from dps_jax.metrics.line_pairs import (
    line_pair_dip,
    line_pair_profile,
    line_pair_visibility,
    smallest_resolved_px,
)
from dps_jax.metrics.noise import PhotonScale, estimate_photon_scale, out_of_band_noise
from dps_jax.metrics.one_image import frc_one_image
from dps_jax.metrics.out_of_band import out_of_band_correlation, radial_power_spectrum
from dps_jax.metrics.registration import (
    crispness,
    endpoint_error,
    folding_fraction,
    residual_motion,
    template_correlation,
)
from dps_jax.metrics.scores import (
    at_promised_resolution,
    psnr_at_promised_resolution,
    scores_against_truth,
)
from dps_jax.metrics.trust import residual_in_noise, rolling_frc

__all__ = [
    "PhotonScale",
    "Squirrel",
    "at_promised_resolution",
    "crispness",
    "decorrelation_curve",
    "decorrelation_resolution",
    "endpoint_error",
    "error_map",
    "estimate_photon_scale",
    "folding_fraction",
    "frc_curve",
    "frc_one_image",
    "frc_resolution",
    "fsc_curve",
    "fsc_resolution",
    "least_squares_scale",
    "line_pair_dip",
    "line_pair_profile",
    "line_pair_visibility",
    "mae",
    "ms_ssim",
    "nrmse",
    "out_of_band_correlation",
    "out_of_band_noise",
    "percentile_normalise",
    "psnr",
    "psnr_at_promised_resolution",
    "radial_power_spectrum",
    "residual_in_noise",
    "residual_motion",
    "rolling_frc",
    "rse",
    "rsp",
    "scores_against_truth",
    "smallest_resolved_px",
    "spectral_cutoff",
    "squirrel",
    "ssim",
    "template_correlation",
]
