"""The network as data: its layers, profile and weights, and the ONNX graph made from them."""
