"""Positions that are interpolated between fixes, and times without a position."""

from __future__ import annotations

import math

import pytest

from squeezedrive.pipeline.core.gps import GpsFix, GpsTrack, bearing, distance


def at(track: GpsTrack, seconds: float) -> tuple[float, float] | None:
    fix = track.at(seconds)
    return None if fix is None else (round(fix.lat, 6), round(fix.lon, 6))


def test_positions_are_interpolated_between_two_fixes() -> None:
    track = GpsTrack(
        [
            (1.0, GpsFix(48, 11, 500, 10, 350, 100.0)),
            (2.0, GpsFix(48.001, 11.002, 510, 20, 10, 101)),
        ],
        "t",
    )
    fix = track.at(1.25)
    assert fix is not None
    assert (fix.lat, fix.lon) == pytest.approx((48.00025, 11.0005), abs=1e-8)
    assert (fix.altitude, fix.speed, fix.utc) == (502.5, 12.5, 100.25)
    assert fix.course == pytest.approx(355)  # the shorter way round
    assert track.at(1.0) == track.fixes[0][1]
    assert fix.record() == {
        "lat": 48.00025, "lon": 11.0005, "alt": 502.5, "speed": 12.5, "course": 355.0,
        "utc": "1970-01-01T00:01:40.250Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "middle"),
    [
        ((10, 179.999), (10, -179.997), (10, -179.999)),
        ((10, -179.999), (10, 179.997), (10, 179.999)),
        ((89.999, 0), (89.999, 180), (90, None)),
        ((-89.9995, 90), (-89.9985, -90), (-89.9995, -90)),
        ((48, 11), (48, 11), (48, 11)),
    ],
)
def test_interpolates_across_the_date_line_and_poles(
    a: tuple[float, float], b: tuple[float, float], middle: tuple[float, float | None]
) -> None:
    track = GpsTrack([(0, GpsFix(*a)), (2, GpsFix(*b))], "t")
    found = at(track, 1)
    assert found is not None
    assert found[0] == pytest.approx(middle[0], abs=1e-5)
    if middle[1] is not None:
        assert math.cos(math.radians(found[1] - middle[1])) == pytest.approx(1, abs=1e-12)
    fix = track.fixes[0][1]
    assert fix is not None
    assert fix.speed is not None
    assert fix.speed < 250  # not the long way round the earth


def test_a_frame_without_a_fix_has_no_position() -> None:
    here, there = GpsFix(48, 11, utc=50.0), GpsFix(48.1, 11)
    lost = GpsTrack([(10, here), (11, None), (13, there)], "t")
    moments = (8.9, 9.1, 10, 10.9, 11, 11.9, 12.1, 13, 14, 14.1)
    assert [at(lost, t) is not None for t in moments] == [
        False, True, True, True, False, False, True, True, True, False
    ]  # fmt: skip
    before = lost.at(9.5)
    assert before is not None
    assert before.utc == 49.5
    gap = GpsTrack([(0, here), (10.5, there)], "t")
    assert [at(gap, t) is not None for t in (0.9, 1.1, 9, 9.6)] == [True, False, False, True]
    assert at(GpsTrack([(0, here), (10, there)], "t"), 5) == (48.05, 11)
    assert GpsTrack([], "t").at(0) is None
    assert GpsTrack([], "t").is_empty
    assert GpsTrack([(0, None)], "t").is_empty


def test_missing_speed_and_course_are_computed_from_positions() -> None:
    east = [(k / 10, GpsFix(0, 0.00001 * k)) for k in range(11)]
    track = GpsTrack(east, "t")
    for _, fix in track.fixes:
        assert fix is not None
        assert fix.speed == pytest.approx(11.1195, rel=1e-4)
        assert fix.course == pytest.approx(90)
    (_, still), *_ = GpsTrack([(0, GpsFix(5, 5)), (1, GpsFix(5, 5))], "t").fixes
    assert still is not None
    assert (still.speed, still.course) == (0, None)
    (_, said), *_ = GpsTrack([(0, GpsFix(5, 5, speed=7)), (1, GpsFix(5.001, 5))], "t").fixes
    assert said is not None
    assert (said.speed, said.course) == (7, 0)
    (_, alone), *_ = GpsTrack([(0, GpsFix(5, 5)), (1, None), (2, GpsFix(6, 6))], "t").fixes
    assert alone == GpsFix(5, 5)


def test_unordered_and_invalid_points_are_handled() -> None:
    wrong = [GpsFix(91, 0), GpsFix(0, 181), GpsFix(math.nan, 0), GpsFix(0, math.inf)]
    track = GpsTrack([(2, GpsFix(2, 0)), *((1.5, fix) for fix in wrong), (1, GpsFix(1, 0))], "t")
    assert [time for time, _ in track.fixes] == [1, 2]
    twice = GpsTrack([(1, GpsFix(1, 1)), (1, GpsFix(1, 1)), (2, GpsFix(1, 1))], "t")
    assert at(twice, 1) == (1, 1)
    assert [time for time, _ in twice.span(1, 2)] == [1, 1]


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e300, 1e300])
def test_impossible_values_are_left_out(value: float) -> None:
    further = dict.fromkeys(("altitude", "speed", "course", "utc"), value)
    (_, fix), *_ = GpsTrack([(0, GpsFix(1, 2, **further)), (90, GpsFix(1, 2))], "t").fixes
    assert fix == GpsFix(1, 2)
    assert fix.record()["utc"] is None


def test_distance_and_course_match_known_values() -> None:
    london, paris = GpsFix(51.5, -0.12), GpsFix(48.85, 2.35)
    assert distance(london, paris) == pytest.approx(343_100, rel=0.001)
    assert bearing(london, paris) == pytest.approx(148.1, abs=0.2)
    assert bearing(GpsFix(0, 179.9), GpsFix(0, -179.9)) == pytest.approx(90)
