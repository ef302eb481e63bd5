"""A worker of a fleet whose process dies at files with certain names."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from squeezedrive.pipeline.fleet.job import FileRow, Job
from squeezedrive.pipeline.fleet.worker import FleetWorker


class DyingWorker(FleetWorker):
    """A worker that is killed each time at always.mp4, and at once.mp4 the first time only."""

    def process(self, job: Job, before: int = 0) -> FileRow:
        """Process a file, or die."""
        path = Path(job.name)
        mark = path.with_suffix(".died")
        if path.name == "always.mp4" or (path.name == "once.mp4" and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().process(job, before)
