"""Detects in thousands of recordings: one file a task, results as tables, in many processes."""
