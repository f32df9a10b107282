"""The normal random numbers that PyTorch draws on a CPU from a seed, without PyTorch: a voice says the same by both
approaches.

PyTorch's generator is the Mersenne Twister MT19937, and two normal numbers come of two uniform ones (Box and Muller, "A
Note on the Generation of Random Normal Deviates", 1958). Contiguous tensors of 16 numbers or more are drawn in blocks
of 16 in single precision, others one by one in double precision.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 16


class Normal:
    """Draws as `torch.manual_seed(seed)` and then `torch.randn` would; draws depend on those before them."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed & 0xFFFFFFFF)
        self._kept: float | None = None  # numbers that are drawn one by one come in pairs

    def draw(self, count: int, *, contiguous: bool = True) -> np.ndarray:
        """FP32 [count], in the order of the tensor's memory."""
        return self._blocks(count) if contiguous and count >= _BLOCK else self._singles(count)

    def _blocks(self, count: int) -> np.ndarray:
        whole = count - count % _BLOCK
        drawn = np.empty(count, np.float32)
        uniform = self._uniform(count)
        drawn[:whole] = _pairs(uniform[:whole])
        if whole < count:  # the last block is drawn anew, over what there is
            drawn[-_BLOCK:] = _pairs(self._uniform(_BLOCK))
        return drawn

    def _uniform(self, count: int) -> np.ndarray:
        return (self._words(count) & np.uint32((1 << 24) - 1)).astype(np.float32) * np.float32(2.0**-24)

    def _singles(self, count: int) -> np.ndarray:
        kept = [] if self._kept is None else [self._kept]
        pairs = -(-max(count - len(kept), 0) // 2)
        words = self._words(4 * pairs).astype(np.uint64).reshape(pairs, 2, 2)
        uniform = ((words[..., 0] << np.uint64(32) | words[..., 1]) & np.uint64((1 << 53) - 1)) * 2.0**-53
        radius, angle = np.sqrt(-2 * np.log1p(-uniform[:, 1])), 2 * np.pi * uniform[:, 0]
        drawn = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
        numbers = np.concatenate([np.array(kept), drawn])
        self._kept = float(numbers[count]) if len(numbers) > count else None
        return numbers[:count].astype(np.float32)

    def _words(self, count: int) -> np.ndarray:
        return np.frombuffer(self._state.bytes(4 * count), "<u4")


def _pairs(uniform: np.ndarray) -> np.ndarray:
    """Blocks of 16 uniform numbers as blocks of 16 normal ones: the first eight and the last eight are the pairs."""
    first, second = np.moveaxis(uniform.reshape(-1, 2, _BLOCK // 2), 1, 0)
    radius, angle = np.sqrt(-2 * np.log(1 - first)), np.float32(2 * np.pi) * second
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
