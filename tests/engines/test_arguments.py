import argparse
from collections.abc import Callable

import pytest

from engines.arguments import aliases, count, fraction, input_size, names


def test_values_are_read() -> None:
    assert input_size("1248x384") == (1248, 384)
    assert names("car, pedestrian,") == ["car", "pedestrian"]
    assert aliases("person=pedestrian, fog lamp=dontcare") == {
        "person": "pedestrian",
        "fog lamp": "dontcare",
    }
    assert fraction("0.25") == 0.25
    assert count("64") == 64


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (input_size, "1248", "expected WIDTHxHEIGHT, got '1248'"),
        (input_size, "0x384", "expected WIDTHxHEIGHT"),
        (aliases, "person", "expected NAME=CLASS,NAME=CLASS, got 'person'"),
        (aliases, "person=", "expected NAME=CLASS"),
        (fraction, "1.5", "expected a number 0 to 1, got '1.5'"),
        (fraction, "half", "expected a number 0 to 1"),
        (count, "0", "expected a number of at least 1, got '0'"),
        (count, "-3", "expected a number of at least 1"),
    ],
)
def test_wrong_values_are_refused(read: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        read(text)
