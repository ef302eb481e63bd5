"""Arithmetic on pixels and boxes: preprocess, decode, top-N, NMS.

Knows nothing of video, queues or inference engines.
"""
