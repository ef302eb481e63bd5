"""Events: what in the detections is worth a clip of its own."""

from __future__ import annotations

import operator
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.dataset import class_key
from squeezedrive.engines.errors import ConfigError
from squeezedrive.pipeline.config import RecordConfig
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.moments import exactly
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.sinks.recordings.clock import RecordingClock

# A box that flickers up is no event: a condition has to hold in so many frames within a moment,
# or in all where there are fewer.
HOLDING_FRAMES = 3
MOMENT_SECONDS = Fraction(1, 2)
LONGEST_SECONDS = 600  # of an event; what goes on becomes another

OPERATORS: dict[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
TERM = re.compile(r"\s*(?P<name>\S.*?)\s*(?P<op>>=|<=|==|>|<)\s*(?P<count>\d+)\s*")


@dataclass(frozen=True)
class EventCondition:
    """Counts of classes that have to be met at the same time."""

    text: str  # as the user wrote it
    # Index of a class, comparison, and what the count is compared with.
    terms: tuple[tuple[int, Callable[[int, int], bool], int], ...]

    def holds(self, counts: NDArray[np.intp]) -> bool:
        """Say whether `counts`, one per class, meet it."""
        return all(compare(int(counts[index]), count) for index, compare, count in self.terms)

    @property
    def classes(self) -> list[int]:
        """Indices of the classes it names."""
        return list(dict.fromkeys(index for index, _, _ in self.terms))


def parse_condition(text: str, class_names: Sequence[str]) -> EventCondition:
    """Read a condition like "pedestrian>=1 and car>3".

    Raises
    ------
    ConfigError
        If it is not one, names an unknown class, or says nothing.
    """
    terms = []
    indices = {class_key(name): index for index, name in enumerate(class_names)}
    for part in re.split(r"\s+and\s+", text):
        match = TERM.fullmatch(part)
        if match is None:
            raise ConfigError(
                f"event {text!r}: expected CLASS OPERATOR NUMBER, for example pedestrian>=1,"
                f" joined by 'and'; operators are {' '.join(OPERATORS)}"
            )
        name, symbol, count = match["name"], match["op"], int(match["count"])
        if class_key(name) not in indices:
            known = ", ".join(class_names)
            raise ConfigError(f"event {text!r}: unknown class {name!r}, the network knows {known}")
        if count == 0 and symbol in (">=", "<"):
            never = "always" if symbol == ">=" else "never"
            raise ConfigError(f"event {text!r}: {part.strip()} is {never} so, a count is 0 or more")
        terms.append((indices[class_key(name)], OPERATORS[symbol], count))
    return EventCondition(text, tuple(terms))


def check_events(record: RecordConfig, class_names: Sequence[str]) -> None:
    """Refuse a recording that cannot be, before anything is opened.

    Raises
    ------
    ConfigError
        If an event cannot be read, or there is nothing that `record.keep` could delete.
    """
    for text in record.events:
        parse_condition(text, class_names)
    if record.keep is not None and record.segment is None and not record.events:
        raise ConfigError(
            "record.keep: deletes segments and clips, and there are none; give --segment SECONDS"
        )


@dataclass
class Event:
    """Something that was seen, from the first to the last frame in which it was."""

    conditions: list[str]  # what held, in the order in which it began to
    what: str  # the classes it began with, for names of files
    begin: int  # the pts its clip should begin with, `before` seconds earlier
    first: int  # the pts of the first frame in which a condition held
    last: int  # and of the last
    time: float  # when the first was taken, in seconds since 1970
    best_score: float | None = None  # of a detection of these classes; None if there was none


class EventDetector:
    """Detect events, and return for every frame the event whose clip shows it.

    An event begins when a condition has held for a moment, and goes on until no condition of it
    has held for `after` seconds; what begins before that belongs to the same event.

    Parameters
    ----------
    conditions : sequence of str
        What is worth a clip, see `parse_condition`.
    class_names : sequence of str
        Names in the order of the class indices.
    before, after : float
        Seconds that a clip shows before and after its event.
    clock : RecordingClock, optional
        Dates the events; this computer's clock if not given.

    Raises
    ------
    ConfigError
        If a condition cannot be read.
    """

    def __init__(
        self,
        conditions: Sequence[str],
        class_names: Sequence[str],
        before: float,
        after: float,
        clock: RecordingClock | None = None,
    ) -> None:
        self.before = before
        self._clock = clock or RecordingClock()
        self._after = exactly(after)
        self._class_names = class_names
        self._conditions = [parse_condition(text, class_names) for text in conditions]
        self._recent: deque[tuple[int, list[EventCondition]]] = deque()
        self._young = True
        self._event: Event | None = None

    def at(self, result: FrameResult) -> Event | None:
        """Return the event whose clip shows a frame. Frames are given in their order."""
        frame, found = result.frame, result.detections
        counts = np.bincount(found.classes, minlength=len(self._class_names))
        holding = [condition for condition in self._conditions if condition.holds(counts)]
        if result.detected:  # a frame that was not looked at proves nothing
            self._remember(frame.pts, holding, frame.time_base)
        begun = [condition for condition in holding if self._has_held(condition)]

        event = self._event
        if event is not None and (frame.pts - event.last) * frame.time_base > self._after:
            event = None
        going_on = [c for c in holding if c in begun or (event and c.text in event.conditions)]
        if event is not None and going_on:
            if (frame.pts - event.first) * frame.time_base >= LONGEST_SECONDS:
                now = frame.pts
                event = Event([], event.what, now, now, now, self._clock.see(frame))
        elif event is None and begun:
            event = self._begin(begun[0], frame)
        if event is not None and going_on:
            event.last = frame.pts
            for condition in going_on:
                if condition.text not in event.conditions:
                    event.conditions.append(condition.text)
            classes = [index for condition in going_on for index in condition.classes]
            scores = found.scores[np.isin(found.classes, classes)]
            if len(scores):
                event.best_score = max(event.best_score or 0.0, float(scores.max()))
        self._event = event
        return event

    def _remember(self, pts: int, holding: list[EventCondition], time_base: Fraction) -> None:
        self._recent.append((pts, holding))
        while (pts - self._recent[0][0]) * time_base > MOMENT_SECONDS:
            self._recent.popleft()
            self._young = False

    def _has_held(self, condition: EventCondition) -> bool:
        frames = sum(condition in holding for _, holding in self._recent)
        enough = HOLDING_FRAMES if self._young else min(HOLDING_FRAMES, len(self._recent))
        return frames >= enough

    def _begin(self, condition: EventCondition, frame: Frame) -> Event:
        pts, time_base = frame.pts, frame.time_base
        first = next(p for p, holding in self._recent if condition in holding)
        begin = first - round(exactly(self.before) / time_base)
        what = "-".join(self._class_names[index] for index in condition.classes)
        taken_at = self._clock.see(frame) - float((pts - first) * time_base)
        return Event([], what, begin, first, pts, taken_at)
