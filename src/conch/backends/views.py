"""Arrays over memory that numpy calls read-only, for frameworks that refuse such arrays and yet only read them."""

from __future__ import annotations

import numpy as np


class _Window:
    """Shows an array's memory to numpy as writable, and keeps the array alive."""

    def __init__(self, array: np.ndarray) -> None:
        interface = array.__array_interface__
        self.owner = array
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}


def writable_view(array: np.ndarray) -> np.ndarray:
    """The same elements in the same memory, flagged writable. Nobody may write there: others read them too."""
    return array if array.flags.writeable else np.asarray(_Window(array))
