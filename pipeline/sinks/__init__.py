"""Where results go: video, JSON lines, KITTI files, a window."""
