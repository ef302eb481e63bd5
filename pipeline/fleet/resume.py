"""What earlier runs have done: it is left out, and rows go that nothing would replace."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.fleet.job import Job, place_of
from squeezedrive.pipeline.fleet.storage import ResultFolder
from squeezedrive.pipeline.fleet.tables import RowMark
from squeezedrive.pipeline.fleet.tally import FleetTally

log = logging.getLogger("squeezedrive")

READERS = 32  # rows of earlier runs that are looked up at the same time


def unfinished(
    jobs: Iterable[Job], folder: ResultFolder, tally: FleetTally
) -> Generator[Job, None, None]:
    """Yield the recordings, and parts of them, without a final row of the same key.

    The others are counted. A recording has rows either as a whole or in parts: those of the other
    kind, from a run with other settings, are removed.

    Raises
    ------
    SinkError
        If the folder cannot be listed.
    """
    try:
        there = folder.parts()
    except OSError as error:
        raise SinkError(f"{folder.url}: cannot be listed: {error}") from None
    parts: dict[str, list[str]] = defaultdict(list)  # by the recording's place
    for place in there:
        if "/part-" in place:
            parts[place.rpartition("/part-")[0]].append(place)

    def find(job: Job) -> RowMark | None:
        """Return the mark of a recording that is finished, or whose first part is."""
        divided = parts.get(job.place, [])
        first = place_of(job.shown, 1)
        mark = folder.mark(first) if first in divided else None
        if mark is not None and mark.is_final(job.key):
            remove_rows(folder, {job.place} & there)
            return mark
        mark = folder.mark(job.place) if job.place in there else None
        if mark is not None and mark.is_final(job.key):
            remove_rows(folder, divided)
            return mark
        for place in divided:
            mark = folder.mark(place)
            if mark is None or mark.key != job.key:
                remove_rows(folder, [place])
        return None

    ahead = iter(jobs)
    with ThreadPoolExecutor(READERS, "rows") as readers:
        while group := list(islice(ahead, READERS)):
            for job, mark in zip(group, readers.map(find, group), strict=True):
                if mark is None:
                    yield job
                else:
                    tally.skip(mark.exit_kind, job.size, 1 + len(mark.following))
                    yield from left_of(job.others(mark.following), folder, tally)


def left_of(parts: Sequence[Job], folder: ResultFolder, tally: FleetTally) -> Iterator[Job]:
    """Yield those of all parts of a recording but the first without a final row of the same key."""
    tally.expect(len(parts))
    for job in parts:
        mark = folder.mark(job.place)
        if mark is None or not mark.is_final(job.key):
            yield job
        else:
            tally.skip(mark.exit_kind, job.size, 1 + len(parts))


def remove_rows(folder: ResultFolder, places: Iterable[str]) -> None:
    """Remove rows that are out of date; if that fails, the next run does it."""
    for place in places:
        try:
            folder.remove(place)
        except OSError as error:
            log.warning("%s: cannot remove the rows of %s: %s", folder.url, place, error)
