import pytest

from squeezedrive.pipeline.profiling.series import BUCKETS, WIDTH, Gauge, LoadCurves


def test_a_rate_and_its_error() -> None:
    line = LoadCurves()
    for i in range(1000):
        line.add((i + 0.5) * 0.01, 2.0)
    rate = line.rate(10.0)
    assert rate.mean == pytest.approx(100)
    assert rate.error == pytest.approx(0, abs=1e-9)
    assert line.mean(10.0).mean == pytest.approx(2.0)


def test_the_error_is_that_of_the_scatter_between_parts() -> None:
    line = LoadCurves()
    for part in range(10):  # ten seconds with 14 and 10 events in turn
        for i in range(10 if part % 2 else 14):
            line.add(part + (i + 0.5) / 20, float(part % 2))
    rate = line.rate(10.0)
    assert rate.mean == pytest.approx(12)
    # Each of ten values is 2 off the mean: s = 2 sqrt(10/9), error of the mean s / sqrt(10) = 2/3.
    assert rate.error == pytest.approx(2 / 3)
    assert line.mean(10.0).error == pytest.approx((10 / 9) ** 0.5 / 2 / 10**0.5)


def test_a_run_too_short_has_no_error() -> None:
    line = LoadCurves()
    line.add(0.01)
    assert line.rate(WIDTH * 3).error is None
    assert LoadCurves().rate(0.0).mean == 0.0


def test_memory_does_not_grow_and_nothing_is_lost() -> None:
    line = LoadCurves()
    for i in range(36_000):
        line.add(i * 0.1, 1.0)  # events over an hour
    assert len(line.counts) == len(line.sums) == BUCKETS
    assert sum(line.counts) == sum(line.sums) == 36_000
    assert line.width == pytest.approx(WIDTH * 512)
    assert line.counts[10] == pytest.approx(line.width * 10, abs=1)
    assert line.rate(3600.0).mean == pytest.approx(10)


def test_a_gauge_weighs_levels_with_their_time() -> None:
    gauge = Gauge()
    gauge.level = 2  # the level before the first change
    gauge.set(1.0, 0)
    gauge.set(1.5, 4)
    gauge.set(2.0, 4)
    assert gauge.average(2.0) == pytest.approx((2 * 1 + 0 * 0.5 + 4 * 0.5) / 2)
    assert gauge.held == pytest.approx({2: 1.0, 0: 0.5, 4: 0.5})
    assert [total / WIDTH for total in gauge.sums[:40]] == pytest.approx(
        [2] * 20 + [0] * 10 + [4] * 10
    )


def test_a_gauge_that_stays_for_long_fills_the_buckets_between() -> None:
    gauge = Gauge()
    gauge.level = 3
    gauge.set(100.0, 1)
    gauge.set(200.0, 0)
    assert sum(gauge.sums) == pytest.approx(400)
    used = gauge.used(200.0)
    assert gauge.sums[used // 4] / gauge.width == pytest.approx(3)
    assert gauge.sums[used * 3 // 4] / gauge.width == pytest.approx(1)
