"""Sources of frames: files, streams, images, cameras and the clip that comes with the program."""
