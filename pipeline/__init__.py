"""Moves frames: sources, bounded queues, stages, drawing, sinks, timing. Knows nothing of CUDA."""
