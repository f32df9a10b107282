"""Trains the network of this example on pictures that it makes (a minute, numpy only), and writes its weights."""

from pathlib import Path

import numpy as np
from patterns import random_picture

VERSION = Path(__file__).parent / "models" / "stripe_network" / "1"
CHANNELS, STEPS, BATCH, SIZE = 12, 1500, 64, 24


def batch(random):
    """Pixels as the model gets them, and their patterns."""
    patterns = random.integers(0, 4, BATCH)
    pictures = np.stack([random_picture(random, pattern, SIZE) for pattern in patterns])
    return pictures.astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1, patterns


def gradients(weights, pixels, patterns):
    """The derivative of the mean cross entropy by each weight, and that mean."""
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3), axis=(2, 3))
    maps = np.einsum("nchwij,ocij->nohw", windows, weights["kernel"], optimize=True) + weights["bias"][:, None, None]
    area = maps.shape[2] * maps.shape[3]
    means = np.maximum(maps, 0).mean(axis=(2, 3))
    scores = means @ weights["linear"] + weights["linear_bias"]
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[np.arange(len(patterns)), patterns]).mean()
    by_scores = probabilities.copy()
    by_scores[np.arange(len(patterns)), patterns] -= 1
    by_scores /= len(patterns)
    by_maps = (by_scores @ weights["linear"].T)[:, :, None, None] * (maps > 0) / area
    found = {
        "kernel": np.einsum("nohw,nchwij->ocij", by_maps, windows, optimize=True),
        "bias": by_maps.sum(axis=(0, 2, 3)),
        "linear": means.T @ by_scores,
        "linear_bias": by_scores.sum(axis=0),
    }
    return found, loss


def main():
    random = np.random.default_rng(0)
    weights = {
        "kernel": random.normal(0, 0.3, (CHANNELS, 3, 3, 3)),
        "bias": np.zeros(CHANNELS),
        "linear": random.normal(0, 0.5, (CHANNELS, 4)),
        "linear_bias": np.zeros(4),
    }
    first = {name: np.zeros_like(each) for name, each in weights.items()}
    second = {name: np.zeros_like(each) for name, each in weights.items()}
    for step in range(1, STEPS + 1):
        found, loss = gradients(weights, *batch(random))
        for name, gradient in found.items():  # Adam
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            rate = 0.02 * (1 - step / STEPS) * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            weights[name] -= rate * first[name] / (np.sqrt(second[name]) + 1e-8)
        if step % 100 == 0:
            print(f"step {step}: loss {loss:.3f}", flush=True)
    np.savez(VERSION / "weights.npz", **{name: each.astype(np.float32) for name, each in weights.items()})


if __name__ == "__main__":
    main()
