"""Sinks that write video: whole files, segments and clips of events."""
