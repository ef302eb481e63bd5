"""Follows objects from frame to frame."""
