"""The network: 3x3 convolution, ReLU, mean over the picture, linear layer, softmax."""

import numpy as np


def features(weights, pixels):
    """Means of the convolution's outputs: [N, 3, H, W] to [N, channels]."""
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3), axis=(2, 3))
    maps = np.einsum("nchwij,ocij->nohw", windows, weights["kernel"], optimize=True)
    maps += weights["bias"][:, None, None]
    return np.maximum(maps, 0).mean(axis=(2, 3))


def forward(weights, pixels):
    """Probabilities of the classes: [N, 3, H, W] to [N, 4]."""
    scores = features(weights, pixels) @ weights["linear"] + weights["linear_bias"]
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)
