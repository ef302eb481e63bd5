"""A street as a dashcam sees it, rendered by the project itself, with exact ground truth."""
