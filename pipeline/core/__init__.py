"""The base of the pipeline: frames, queues, workers, the interfaces of sources and sinks."""
