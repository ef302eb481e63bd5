"""The fuzzer finds forbidden behaviour and keeps the input."""

import threading
from pathlib import Path

import pytest

from tests.fuzz import campaign
from tests.fuzz.campaign import replay, run_target
from tests.support.misbehaving import HANGS, HOW

ROUGHLY = 60.0  # seconds for an input: other tests run at the same time


@pytest.mark.timeout(300)
def test_what_must_not_happen_is_found_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "WORKER", "tests.support.misbehaving")
    outcome = run_target("misbehaving", 0, len(HOW), tmp_path, patience=ROUGHLY)
    assert outcome.inputs == len(HOW)
    found = {HOW[number]: kind for kind, numbers in outcome.found.items() for number in numbers}
    assert found == {
        "exception": "exception KeyError in somewhere",
        "traceback": "traceback ZeroDivisionError in somewhere",
        "forbidden": "forbidden open '../beside'",
        "unseen": "file outside the output",
        "connects": "forbidden socket.connect (None, ('example.org', 80))",
        "thread": "threads left",
        "handle": "handles left",
        "code": "exit code 1",
        "silent": "0 lines of error",
        "lines": "2 lines of error",
        "long": "long line",
        "noise": found["noise"],
        "control": "control characters 'error'",
        "memory": "memory",
        "died": "died of 11",
        "slow": "hang",
    }
    assert found["noise"].startswith("noise ")
    for kind, places in outcome.kept.items():
        for place in places:
            how = (place / "in" / "file").read_text()
            assert found[how] == kind
            words = (place / "found.txt").read_text()
            assert words.startswith(f"misbehaving {HOW.index(how)}: {kind}")
    (place,) = outcome.kept["exit code 1"]
    assert replay("misbehaving", place)[0][0][0] == "exit code 1"


@pytest.mark.timeout(300)
def test_a_worker_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "WORKER", "tests.support.misbehaving")
    outcome = run_target("misbehaving", 0, 1, tmp_path, first=HANGS, patience=2)
    assert outcome.found == {"hang": [HANGS]}
    (place,) = outcome.kept["hang"]
    assert (place / "in" / "file").read_text() == "hang"


def test_what_was_done_counts_when_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "WORKER", "tests.support.misbehaving")
    stop = threading.Event()
    outcome = run_target(
        "misbehaving", 0, len(HOW), tmp_path, said=lambda _: stop.set(), patience=ROUGHLY, stop=stop
    )
    assert outcome.inputs == HOW.index("exception") + 1
    assert list(outcome.found) == ["exception KeyError in somewhere"]
