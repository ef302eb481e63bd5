"""A run of the program: open what the configuration names, run it, report."""
