"""Some inputs of every target, the same each time."""

from pathlib import Path

import pytest

from tests.fuzz.__main__ import main
from tests.fuzz.campaign import run_target
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import CHUNK, cases_of

ROUGHLY = 60.0  # seconds for an input: other tests run at the same time


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.quick])
def test_the_program_takes_it(name: str, tmp_path: Path) -> None:
    quick = TARGETS[name].quick
    outcome = run_target(name, 0, quick, tmp_path, patience=ROUGHLY)
    assert outcome.inputs == quick
    words = [
        place.joinpath("found.txt").read_text() for one in outcome.kept.values() for place in one
    ]
    assert not outcome.found, "\n".join(words)


@pytest.mark.parametrize("name", ["mp4", "http", "coco"])
def test_an_input_is_the_same_whichever_are_made_before(name: str) -> None:
    def first(number: int) -> tuple[tuple[str, ...], list[bytes]]:
        case = next(cases_of(name, TARGETS[name], 5, number))
        return case.arguments, list(map(bytes, case.files.values()))

    inputs = cases_of(name, TARGETS[name], 5, CHUNK - 2)
    several = [next(inputs) for _ in range(4)]
    for number, case in enumerate(several, CHUNK - 2):
        assert first(number) == (case.arguments, list(map(bytes, case.files.values())))
    assert len({(case.arguments, *map(bytes, case.files.values())) for case in several}) > 1


def test_an_unknown_target_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["mp3"])
    assert "expected one of mp4, ts" in capsys.readouterr().err
