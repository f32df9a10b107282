"""The name of Triton's compiled half of the API; some models import it directly."""

import sys

from conch_stub import pb_utils  # type: ignore[import-not-found, unused-ignore]

sys.modules[__name__] = pb_utils
