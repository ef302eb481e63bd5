"""The network as data: layers, profile, weights and the ONNX graph made of them."""
