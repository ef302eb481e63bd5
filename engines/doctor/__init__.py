"""What `squeezedrive doctor` looks at: this computer, its GPU, whether a network runs."""
