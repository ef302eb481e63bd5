"""Back ends, which run the network: their interface, the choice of one, and a folder for each.

`cuda` is not a back end; it holds the code that `tensorrt` and `torch` share.
"""
