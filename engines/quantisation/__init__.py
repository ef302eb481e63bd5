"""Quantise a network to 8-bit integers: calibration, graph, and the effect on AP and speed."""
