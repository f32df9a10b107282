"""The PyTorch backend: `backend: "pytorch"`, `platform: "pytorch_libtorch"`; TorchScript and torch.export files."""
