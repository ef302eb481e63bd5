"""The package as a library, used in ways that its examples do not show."""

from typing import Any

import pytest

from squeezedrive import Result, SourceError, detect

pytestmark = [pytest.mark.usefixtures("no_run_is_left"), pytest.mark.timeout(60)]


class Sink:
    """A sink of the user's own: does with each result what a test wants."""

    def __init__(self) -> None:
        self.closed = 0

    def write(self, result: Result) -> None:
        """Take one result."""

    def close(self) -> None:
        self.closed += 1


class Refusing(Sink):
    """Uses the library itself, and gives it something wrong."""

    def write(self, result: Result) -> None:
        raise SourceError("a picture of the sink's own")


def refusing(result: Result) -> None:
    Refusing().write(result)


@pytest.mark.parametrize("arguments", [{"sinks": [Refusing()]}, {"draw": refusing}])
def test_a_source_error_of_the_users_code_ends_the_run(
    arguments: dict[str, Any], small: dict[str, Any]
) -> None:
    """It is not that of the run's own source, which ends only what is read."""
    with pytest.raises(SourceError, match="of the sink's own"):
        list(detect("demo:loop", settings=small, **arguments))
