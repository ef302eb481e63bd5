"""The verbs of `python -m engines`, one file each."""
