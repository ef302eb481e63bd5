"""Evaluate boxes: average precision as KITTI and COCO define it, and the kinds of mistakes."""
