"""A street as a dashcam sees it, rendered by this package, with exact ground truth."""
