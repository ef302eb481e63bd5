"""The live page: the annotated pictures and figures of a run in a browser, and its controls."""
