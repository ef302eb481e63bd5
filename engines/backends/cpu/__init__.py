"""The CPU back end: OpenVINO runs the network, Numba finds the boxes."""
