"""Read the GPS of recordings, from the recordings themselves or from separate files."""
