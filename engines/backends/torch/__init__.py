"""The network in PyTorch, on an NVIDIA GPU."""
