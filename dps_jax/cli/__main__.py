"""``python -m dps_jax.cli`` is ``dps-jax``."""

import sys

from dps_jax.cli import main

sys.exit(main())
