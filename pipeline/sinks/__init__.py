"""Where results go: video, segments and clips, JSON lines, KITTI and MOT files, a window."""
