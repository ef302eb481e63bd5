"""Convert weights of other SqueezeDet implementations for this program."""
