"""Arithmetic on pixels and boxes: preprocess, decode, top-N, NMS.

This package knows nothing of video, queues or inference engines.
"""
