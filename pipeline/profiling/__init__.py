"""Where the time of a run goes, and what holds it back: `run_pipeline.py SOURCE --profile DIR`."""
