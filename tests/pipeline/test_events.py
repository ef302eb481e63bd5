from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from squeezedrive.engines.errors import ConfigError
from squeezedrive.pipeline.sinks.recordings.events import Event, EventDetector, parse_condition
from tests.support.recordings import NAMES, TIME_BASE, found, results


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("pedestrian>=1", (0, 0, 1), (5, 5, 0)),
        ("car > 2", (3, 0, 0), (2, 0, 0)),
        ("cyclist==2", (0, 2, 0), (0, 3, 0)),
        ("car<=1 and pedestrian>=2", (1, 0, 2), (2, 0, 2)),
        ("car<1  and  cyclist>0", (0, 1, 0), (0, 0, 0)),
        ("car==0", (0, 1, 0), (1, 0, 0)),
        ("Car>=1 and PEDESTRIAN>0", (1, 0, 1), (1, 0, 0)),
    ],
)
def test_conditions_are_met_or_not_met(
    text: str, yes: tuple[int, ...], no: tuple[int, ...]
) -> None:
    condition = parse_condition(text, NAMES)
    assert condition.holds(np.array(yes))
    assert not condition.holds(np.array(no))


def test_class_names_may_have_spaces() -> None:
    condition = parse_condition(
        "traffic light >= 1 and hand cart>0", ["hand cart", "traffic light"]
    )
    assert condition.classes == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "event '': expected CLASS OPERATOR NUMBER, for example pedestrian>=1"),
        ("pedestrian", "expected CLASS OPERATOR NUMBER"),
        ("pedestrian=1", "operators are >= <= == > <"),
        ("pedestrian>=many", "expected CLASS OPERATOR NUMBER"),
        ("car>-1", "expected CLASS OPERATOR NUMBER"),
        ("car>1, cyclist>1", "unknown class 'car>1, cyclist'"),
        ("deer>=1", "unknown class 'deer', the network knows car, cyclist, pedestrian"),
        ("car>1 and deer>=1", "unknown class 'deer'"),
        ("car>=0", "car>=0 is always so"),
        ("car<0", "car<0 is never so"),
    ],
)
def test_malformed_conditions_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EventDetector([text], NAMES, 5, 5)
    assert message in str(caught.value)


def watch(
    held: Iterable[bool],
    after: float = 1.0,
    time_base: Fraction = TIME_BASE,
    conditions: tuple[str, ...] = ("pedestrian>=1",),
) -> list[Event | None]:
    """Return the event of every frame; `held` is true for frames with a pedestrian."""
    detector = EventDetector(conditions, NAMES, 2.0, after)
    made = []
    for pts, seen in enumerate(held):
        (result,) = results([pts], found("pedestrian") if seen else None, time_base)
        made.append(detector.at(result))
    return made


def spans(events: list[Event | None]) -> list[tuple[int, int, int]]:
    """Return the first and last frame of each event, and the frame count of its clip."""
    different = {id(event): event for event in events if event is not None}
    return [
        (event.first, event.last, sum(other is event for other in events))
        for event in different.values()
    ]


def flags(text: str) -> list[bool]:
    return [symbol == "x" for symbol in text]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ("." * 10 + "x" * 5 + "." * 50, [(10, 14, 28)]),  # confirmed in the third frame
        ("." * 10 + "x" + "." * 50, []),
        ("." * 10 + "xx" + "." * 50, []),
        ("." * 10 + "x.x.x" + "." * 50, [(10, 14, 26)]),
        ("." * 10 + "x.......x.......x" + "." * 50, []),  # too far apart
        ("xx" + "." * 50, []),  # also too few at the beginning
        ("xxx" + "." * 50, [(0, 2, 26)]),
        ("xxx" + "." * 24 + "x" + "." * 50, [(0, 27, 51)]),  # seen again during the clip
        ("xxx" + "." * 30 + "xxx" + "." * 50, [(0, 2, 26), (33, 35, 26)]),
        ("x" * 40, [(0, 39, 38)]),
    ],
)
def test_a_condition_must_hold_in_several_frames(
    seen: str, expected: list[tuple[int, int, int]]
) -> None:
    assert spans(watch(flags(seen))) == expected


@pytest.mark.parametrize(
    ("fps", "seen", "expected"),
    [
        (1, "...x.....", [(3, 3, 2)]),
        (3, "....x.xx....", [(6, 7, 4)]),
        (5, "....xx.....xxx", [(11, 13, 1)]),
    ],
)
def test_a_low_frame_rate_still_gives_events(
    fps: int, seen: str, expected: list[tuple[int, int, int]]
) -> None:
    assert spans(watch(flags(seen), time_base=Fraction(1, fps))) == expected


@pytest.mark.parametrize("after", [0.3, 0.56, 1.2])
def test_a_clip_shows_as_much_as_asked_for(after: float) -> None:
    events = watch(flags("x" * 5 + "." * 100), after, time_base=Fraction(1, 50))
    assert spans(events) == [(0, 4, 3 + round(after * 50))]


def test_only_frames_seen_by_the_network_count_for_an_event() -> None:
    """Detect in every third frame; the tracker only predicts the object in the next two."""
    for looks, expected in (("..x.....", 0), ("..xxx....", 1)):
        detector = EventDetector(["pedestrian>=1"], NAMES, 2.0, 1.0)
        events = []
        for pts, seen in enumerate(flag for flag in flags(looks) for _ in range(3)):
            (result,) = results([pts], found("pedestrian") if seen else None, Fraction(1, 30))
            events.append(detector.at(replace(result, detected=pts % 3 == 0)))
        assert len({id(event) for event in events if event is not None}) == expected


def test_an_endless_event_is_split() -> None:
    events = watch([True] * 1300, time_base=Fraction(1))
    first, second, third = {id(e): e for e in events if e is not None}.values()
    assert (first.first, first.last, first.begin) == (1, 600, -1)
    assert (second.first, second.last, second.begin) == (601, 1200, 601)
    assert (third.first, third.last) == (1201, 1299)
    assert second.conditions == ["pedestrian>=1"]


def test_an_event_reports_its_condition_classes_times_and_score() -> None:
    detector = EventDetector(["cyclist>0 and car>1", "pedestrian>=1"], NAMES, 1.0, 1.0)
    both = found("car", "car", "cyclist", "pedestrian", score=0.25)
    event = None
    for pts in range(40):
        person = found("pedestrian", score=0.5 if pts == 30 else 0.25)
        (result,) = results([pts], both if pts < 20 else person)
        event = detector.at(result)
    assert event is not None
    assert event.what == "cyclist-car"
    assert event.conditions == ["cyclist>0 and car>1", "pedestrian>=1"]
    assert (event.begin, event.first, event.last) == (-25, 0, 39)
    assert event.best_score == 0.5


def test_an_event_for_an_absent_class_has_no_score() -> None:
    events = watch([False] * 5, conditions=("car==0",))
    assert events[-1] is not None
    assert events[-1].best_score is None
