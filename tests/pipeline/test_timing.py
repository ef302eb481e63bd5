import random

import pytest

from pipeline.timing import Durations, Rate


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


def test_extremes_do_not_break_it() -> None:
    durations = Durations()
    assert durations.percentile(50) == 0.0
    durations.add(0.0)
    assert durations.percentile(99) == pytest.approx(1e-6, rel=0.02)
    durations.add(1e9)
    assert durations.percentile(100) > 1000


def test_rate_follows_the_gaps() -> None:
    rate = Rate(memory=1.0)
    assert rate.tick(0.0) == 0.0
    for i in range(1, 200):
        shown = rate.tick(i * 0.04)
    assert shown == pytest.approx(25)
    for i in range(1, 200):
        shown = rate.tick(199 * 0.04 + i * 0.1)
    assert shown == pytest.approx(10, rel=0.01)
