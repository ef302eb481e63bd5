"""Sinks that write detections or positions to files."""
