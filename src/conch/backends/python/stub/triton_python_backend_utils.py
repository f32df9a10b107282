"""The name under which Triton's models import their API; `conch_stub.pb_utils` is the module itself."""

import sys

from conch_stub import pb_utils  # type: ignore[import-not-found, unused-ignore]

sys.modules[__name__] = pb_utils
