"""The network in TensorRT: engines are built, kept and run here."""
