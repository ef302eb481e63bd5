"""Sinks that write detections as text."""
