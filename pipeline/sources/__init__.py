"""Sources of frames: files, streams, images, cameras and the rendered scene."""
