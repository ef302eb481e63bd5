"""How good the boxes are: average precision as KITTI and COCO define it, and what goes wrong."""
