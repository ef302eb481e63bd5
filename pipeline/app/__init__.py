"""Run the program: open what the configuration names, process it, report."""
