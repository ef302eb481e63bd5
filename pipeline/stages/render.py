"""The fifth stage: draws into the pictures."""

from __future__ import annotations

import time

from squeezedrive.pipeline.core.stage import StageName
from squeezedrive.pipeline.stages.batch import Results


class Render:
    """Draws the results into the pictures of the feeds that have a `draw`."""

    name: StageName = "render"

    def __init__(self) -> None:
        self._spent = 0.0  # moving average of the detection time, in seconds

    def work(self, results: Results) -> Results:
        """Draw into the pictures."""
        if any(result.detected for _, result in results.entries):
            self._spent += 0.1 * (results.spent - self._spent) if self._spent else results.spent
        for feed, result in results.entries:
            if feed.draw is None or feed.broken:
                continue
            rate = feed.rate.at(time.monotonic())
            # There is no rate before two frames have reached the outputs.
            status = f"{rate:.0f} fps  " * (rate > 0) + f"{self._spent * 1e3:.0f} ms"
            gps = result.frame.gps
            if gps is not None and gps.speed is not None:
                status += f"  {gps.speed * 3.6:.0f} km/h"
            if feed.every > 1:
                status += f"  1 frame in {feed.every}"
            feed.draw(result, status)
        return results
