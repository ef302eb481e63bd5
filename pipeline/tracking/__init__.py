"""Track objects from frame to frame."""
