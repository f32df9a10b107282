"""Pictures with one of four patterns: what the network learns, and what the client sends."""

import numpy as np


def picture(pattern: int, size: int, colours: np.ndarray, period: int, phase: int) -> np.ndarray:
    """[size, size, 3] of uint8: plain, horizontal stripes, vertical stripes or chequered, in two colours."""
    stripes = (np.arange(size) + phase) // period % 2
    rows, columns = np.meshgrid(stripes, stripes, indexing="ij")
    which = (np.zeros_like(rows), rows, columns, rows ^ columns)[pattern]
    return np.asarray(colours, dtype=np.uint8)[which]


def random_picture(random: np.random.Generator, pattern: int, size: int) -> np.ndarray:
    """A picture of that pattern with noise; its two colours differ."""
    first = random.integers(0, 256, 3)
    second = (first + random.integers(90, 166, 3)) % 256
    made = picture(pattern, size, np.stack([first, second]), random.integers(2, 5), random.integers(0, 4))
    return np.clip(made + random.normal(0, 6, made.shape), 0, 255).astype(np.uint8)
