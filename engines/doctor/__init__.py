"""The checks of `squeezedrive doctor`: this computer, its GPU, whether a network runs."""
