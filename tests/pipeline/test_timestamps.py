"""Times of frames: of a live source with a bad clock, and over several connections to it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.source import SourceReport
from squeezedrive.pipeline.sources.timestamps import Timeline, Timestamps

TICK = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("given", "mended", "warnings"),
    [
        # pairs of pts in ms and arrival in ms
        ([(0, 0), (40, 45), (80, 81)], [0, 40, 80], 0),
        # a frame arrives three seconds late: its time is right
        ([(0, 0), (40, 3040), (80, 3041), (3040, 3042)], [0, 40, 80, 3040], 0),
        # the camera's clock is set to the date: it leaps by two hours
        ([(0, 0), (40, 40), (7_200_080, 80), (7_200_120, 120)], [0, 40, 80, 120], 1),
        # a frame arrives late, and the camera's clock leaps before it
        ([(0, 0), (40, 40), (90_000, 4000), (90_040, 4040)], [0, 40, 4000, 4040], 1),
        # the clock is set back by an hour, after two seconds without frames
        ([(3_600_000, 0), (3_600_040, 40), (0, 2040)], [3_600_000, 3_600_040, 3_602_040], 1),
        ([(0, 0), (40, 40), (30, 80), (120, 120)], [0, 40, 41, 120], 1),
        ([(None, 0), (40, 40), (None, 90)], [0, 40, 90], 1),
        # a slow camera
        ([(0, 0), (5000, 5000), (10_000, 10_000)], [0, 5000, 10_000], 0),
    ],
)
def test_leaps_of_a_live_clock_are_corrected(
    given: list[tuple[int | None, int]], mended: list[int], warnings: int
) -> None:
    report = SourceReport()
    timestamps = Timestamps(step=40, second=1000, report=report)
    found = [timestamps.mend(pts, k, at / 1000 + 500) for k, (pts, at) in enumerate(given)]
    assert found == mended
    assert len(report.warnings) == warnings


def placed(
    timeline: Timeline, *frames: tuple[int, float], time_base: Fraction = TICK
) -> list[tuple[int, int]]:
    """Place frames of one connection, given as pts and arrival in s; return pts and numbers."""
    timeline.join(Fraction(25))
    picture = np.zeros((2, 2, 3), np.uint8)
    out = [
        timeline.place(Frame(0, k, pts, time_base, at, picture))
        for k, (pts, at) in enumerate(frames)
    ]
    assert {frame.time_base for frame in out} <= {TICK}
    return [(frame.pts, frame.frame_id) for frame in out]


def test_time_and_numbers_continue_over_reconnections() -> None:
    timeline = Timeline()
    assert placed(timeline, (9000, 50.0), (9040, 50.04)) == [(9000, 0), (9040, 1)]
    # ten seconds after the first frame, the camera's clock starts again at 0
    assert placed(timeline, (0, 60.0), (40, 60.04)) == [(19000, 2), (19040, 3)]
    # another clock and time base
    other = Fraction(1, 90_000)
    assert placed(timeline, (10**9, 61.0), (10**9 + 3600, 61.04), time_base=other) == [
        (20000, 4),
        (20040, 5),
    ]


def test_time_never_runs_backwards_over_reconnections() -> None:
    timeline = Timeline()
    # the first frame arrived a second late: the recording's time is ahead of the wall clock
    assert placed(timeline, (0, 50.0), (1000, 50.04)) == [(0, 0), (1000, 1)]
    assert placed(timeline, (500, 50.1), (540, 50.14)) == [(1040, 2), (1080, 3)]
    # the lead does not add up: the third connection begins at the time of the wall clock
    assert placed(timeline, (0, 53.0)) == [(3000, 4)]


def test_a_burst_of_old_frames_is_not_dated_ahead() -> None:
    timeline = Timeline()
    assert placed(timeline, (0, 50.0), (3000, 50.1)) == [(0, 0), (3000, 1)]
    late = [(k * 500, 60 + k / 1000) for k in range(6)]
    pts = [pts for pts, _ in placed(timeline, *late, (3000, 60.5), (3040, 60.54))]
    assert pts == [10_000, 10_500, 11_000, 11_001, 11_002, 11_003, 11_498, 11_538]
