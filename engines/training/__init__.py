"""Train SqueezeDet in PyTorch (the extra `train`): from labelled pictures to weights."""
