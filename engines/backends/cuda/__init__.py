"""The network on an NVIDIA GPU: memory, streams and frames in flight, whatever executes it."""
