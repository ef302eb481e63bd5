"""Labelled pictures in KITTI, COCO and YOLO layout, for training and evaluation alike."""
