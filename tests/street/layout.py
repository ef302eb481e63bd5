"""Positions of things on the street."""

from __future__ import annotations

# Positions across the street, in metres from the middle of the camera's lane.
LANE_RIGHT, LANE_MIDDLE, LANE_LEFT = 1.75, -1.75, -5.15
KERB_RIGHT, KERB_LEFT = 5.35, -8.55
HOUSES_RIGHT, HOUSES_LEFT = 9.0, -12.2
TREES_RIGHT, TREES_LEFT = 5.95, -9.15
TREE_SPACING = 12.0  # metres between trees
CROSSING = 96.0  # metres between zebra crossings
PERIOD = 72.0  # metres after which the surface repeats


def crossing_at(number: int) -> float:
    """Return the position of a zebra crossing, in metres from the camera's start."""
    return (number + 1.0) * CROSSING
