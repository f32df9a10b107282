"""Model repositories that are not directories: object stores, and checkpoints of the HuggingFace hub."""
