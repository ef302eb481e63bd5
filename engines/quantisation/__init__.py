"""Weights as a network in 8-bit integers: calibration, graph, what it costs and what it wins."""
