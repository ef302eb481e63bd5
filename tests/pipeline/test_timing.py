import random

import pytest

from squeezedrive.pipeline.core.timing import Durations, Rate


def test_percentiles_are_right_to_one_percent() -> None:
    generator = random.Random(0)
    values = sorted(generator.lognormvariate(-4, 1) for _ in range(5000))
    durations = Durations()
    for value in values:
        durations.add(value)
    for percent in (1, 50, 95, 99, 100):
        exact = values[max(0, -(-len(values) * percent // 100) - 1)]
        assert durations.percentile(percent) == pytest.approx(exact, rel=0.011)
    assert durations.total == pytest.approx(sum(values))
    assert durations.count == 5000


def test_extreme_times_are_counted() -> None:
    durations = Durations()
    assert durations.percentile(50) == 0.0
    durations.add(0.0)
    assert durations.percentile(99) == pytest.approx(1e-6, rel=0.02)
    durations.add(1e9)
    assert durations.percentile(100) > 1000


def test_rate_follows_the_gaps() -> None:
    rate = Rate(memory=1.0)
    rate.tick(0.0)
    assert rate.at(0.0) == 0.0
    for i in range(1, 200):
        rate.tick(i * 0.04)
    assert rate.at(199 * 0.04) == pytest.approx(25)
    for i in range(1, 200):
        rate.tick(199 * 0.04 + i * 0.1)
    assert rate.at(27.86) == pytest.approx(10, rel=0.01)


def test_rate_averages_bursts() -> None:
    rate = Rate()
    for i in range(500):
        rate.tick(0.1 * (i // 5) + 0.001 * (i % 5))
    assert rate.at(9.95) == pytest.approx(50, rel=0.05)


def test_rate_falls_while_nothing_happens() -> None:
    rate = Rate()
    for i in range(100):
        rate.tick(i * 0.04)
    assert rate.at(99 * 0.04 + 0.1) == pytest.approx(25)
    assert rate.at(99 * 0.04 + 0.5) == pytest.approx(2)
    assert rate.at(99 * 0.04 + 10) == pytest.approx(0.1)
