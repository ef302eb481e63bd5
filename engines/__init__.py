"""The network: its description, weights and ONNX graph, and the back ends that execute it."""
