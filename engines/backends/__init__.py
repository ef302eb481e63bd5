"""What runs the network: the contract of a back end, how one is chosen, and a folder for each.

`cuda` is not a back end: it holds what `tensorrt` and `torch` share.
"""
