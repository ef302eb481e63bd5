"""Where results go: video, segments and clips, JSON lines, tables, KITTI, MOT, a window."""
