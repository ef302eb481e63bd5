"""The third stage: runs the network."""

from __future__ import annotations

import time
from dataclasses import replace

from squeezedrive.pipeline.core.stage import StageName
from squeezedrive.pipeline.stages.batch import Batch


class Inference:
    """Runs the network on batches, several of them at a time if the back end gains by it."""

    name: StageName = "inference"

    def work(self, batch: Batch) -> Batch:
        """Run the network."""
        if batch.slot is None:
            return batch
        start = time.perf_counter()
        batch.slot.infer()
        return replace(batch, spent=batch.spent + time.perf_counter() - start)
