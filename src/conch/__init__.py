"""conch: an inference server for HuggingFace models, wire- and repository-compatible with NVIDIA Triton."""

__version__ = "0.1.0"
