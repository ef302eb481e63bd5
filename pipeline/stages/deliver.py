"""The last stage: gives the results to the sinks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.stage import StageName
from squeezedrive.pipeline.core.timing import Durations
from squeezedrive.pipeline.stages.batch import Results
from squeezedrive.pipeline.stages.feed import Feed


class Deliver:
    """Gives every result to the sinks of its feed; one that fails ends its feed.

    Parameters
    ----------
    feeds : sequence of Feed
        Whose sinks are closed in the end.
    max_age : float or None
        Seconds; older frames do not reach the sinks.
    lose : callable
        Called with the error of a sink that failed.

    Attributes
    ----------
    latency : Durations
        From the arrival of a picture until all its sinks had it.
    """

    name: StageName = "sinks"

    def __init__(
        self,
        feeds: Sequence[Feed],
        max_age: float | None,
        lose: Callable[[SinkError], None],
    ) -> None:
        self.latency = Durations()
        self._feeds = feeds
        self._max_age = max_age
        self._lose = lose

    def work(self, results: Results) -> Results:
        """Give the results to their sinks."""
        for feed, result in results.entries:
            age = time.monotonic() - result.frame.captured_at
            if self._max_age is not None and age > self._max_age:
                feed.stale += 1
            elif not feed.broken:
                try:
                    feed.write(result)
                except SinkError as error:
                    feed.broken = True
                    feed.source.interrupt()  # or it might wait for ever for the next picture
                    self._lose(error)
                else:
                    self.latency.add(time.monotonic() - result.frame.captured_at)
        return results

    def finish(self) -> None:
        """Close all sinks, then raise the first error."""
        failure: Exception | None = None
        for feed in self._feeds:
            for sink in feed.sinks:
                try:
                    sink.close()
                except Exception as error:  # the others have to be finished all the same
                    failure = failure or error
        if failure is not None:
            raise failure
