"""Labelled pictures in KITTI, COCO, Pascal VOC and YOLO layout, to train and evaluate with."""
