"""What the whole pipeline is built on: frames, queues, workers, contracts of sources and sinks."""
