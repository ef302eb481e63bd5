import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezedrive.engines.cli.arguments import (
    add_fit_options,
    add_network_options,
    aliases,
    count,
    fraction,
    input_size,
    names,
    use_trained_fit,
)
from squeezedrive.engines.model.weights import DEFAULT


def test_reads_values_of_options() -> None:
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
def test_rejects_wrong_values(read: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        read(text)


@pytest.mark.parametrize(
    ("profile", "options", "fit", "centre"),
    [
        ({}, [], "band", 0.5),
        ({"fit": "stretch"}, [], "stretch", 0.5),
        ({"fit": "band", "band_centre": 0.6}, [], "band", 0.6),
        ({"fit": "stretch"}, ["--fit", "band"], "band", 0.5),
        ({"fit": "letterbox", "band_centre": 0.6}, ["--band-centre", "0.5"], "letterbox", 0.5),
    ],
)
def test_uses_the_fit_of_the_training_unless_the_user_gives_one(
    tmp_path: Path, profile: dict[str, object], options: list[str], fit: str, centre: float
) -> None:
    values = json.loads(DEFAULT.with_suffix(".json").read_text())
    (tmp_path / "own.json").write_text(json.dumps({**values, **profile}))
    parser = argparse.ArgumentParser()
    add_network_options(parser)
    add_fit_options(parser)
    arguments = parser.parse_args(["--weights", str(tmp_path / "own.npz"), *options])
    use_trained_fit(arguments)
    assert (arguments.fit, arguments.band_centre) == (fit, centre)
