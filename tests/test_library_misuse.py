"""The package as a library, used in ways that its examples do not show."""

import gc
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezedrive import Result, SourceError, detect
from tests.support.threads import threads_of_runs

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [pytest.mark.usefixtures("no_run_is_left"), pytest.mark.timeout(60)]


# Seconds that a run waits for its frames when it ends: long, so that a test notices such a wait.
PATIENCE = 15.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squeezedrive.runs.ORDERLY_SECONDS", PATIENCE)


def wait_until(reached: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not reached():
        assert time.monotonic() - began < 20
        time.sleep(0.02)


class Sink:
    """A sink as a user writes it; tests override `write`."""

    def __init__(self) -> None:
        self.closed = 0

    def write(self, result: Result) -> None:
        """Take one result."""

    def close(self) -> None:
        self.closed += 1


class Refusing(Sink):
    """A sink whose own use of the library raises SourceError."""

    def write(self, result: Result) -> None:
        raise SourceError("a picture of the sink's own")


def refusing(result: Result) -> None:
    Refusing().write(result)


@pytest.mark.parametrize("arguments", [{"sinks": [Refusing()]}, {"draw": refusing}])
def test_a_source_error_raised_by_the_user_ends_the_run(
    arguments: dict[str, Any], small: dict[str, Any]
) -> None:
    """Only a SourceError of the run's own source is an error of that source alone."""
    with pytest.raises(SourceError, match="of the sink's own"):
        list(detect("demo:loop", settings=small, **arguments))


@pytest.mark.usefixtures("patient")
def test_a_sink_may_close_the_run(small: dict[str, Any]) -> None:
    class Closing(Sink):
        took = math.inf

        def write(self, result: Result) -> None:
            if result.frame == 3:
                began = time.monotonic()
                run.close()
                self.took = time.monotonic() - began

    sink = Closing()
    run = detect("demo:loop", settings=small, sinks=[sink])
    assert len(list(run)) <= 4
    assert sink.took < PATIENCE  # the run does not wait for its own thread
    assert sink.closed == 1
    assert not threads_of_runs()


@pytest.mark.usefixtures("patient")
def test_a_run_may_be_garbage_collected_in_its_own_thread(small: dict[str, Any]) -> None:
    took = []

    class Collecting(Sink):
        def write(self, result: Result) -> None:
            if forgotten.wait() and not took:
                began = time.monotonic()
                gc.collect()
                took.append(time.monotonic() - began)

    forgotten, sink = threading.Event(), Collecting()
    gc.disable()
    try:
        run = detect("demo:loop", settings=small, sinks=[sink])
        cycle: list[Any] = [run]
        cycle.append(cycle)
        del run, cycle
        forgotten.set()
        wait_until(lambda: sink.closed == 1)
    finally:
        gc.enable()
    assert took[0] < PATIENCE
    wait_until(lambda: not threads_of_runs())


def test_close_waits_for_the_end_in_whatever_thread_it_is_called(small: dict[str, Any]) -> None:
    class Slow(Sink):
        def close(self) -> None:
            time.sleep(0.5)
            super().close()

    sink = Slow()
    run = detect("demo:loop", settings=small, sinks=[sink])
    next(run)
    closed: list[int] = []

    def close() -> None:
        run.close()
        closed.append(sink.closed)

    closing = [threading.Thread(target=close) for _ in range(3)]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()
    assert closed == [1, 1, 1]


INTERRUPTED = """
import signal, sys, time
from squeezedrive import detect
signal.signal(signal.SIGINT, signal.default_int_handler)
class Slow:
    def write(self, result): pass
    def close(self): print("closing", flush=True); time.sleep(0.7); print("closed", flush=True)
settings = {"network": sys.argv[1], "backend": "cpu"}
for result in detect("demo:loop", settings=settings, sinks=[Slow()]):
    print("result", flush=True)
    time.sleep(60)
"""


def test_a_second_ctrl_c_does_not_leave_sinks_open(small_network: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(small_network)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        for line in ("result\n", "closing\n"):
            assert program.stdout.readline() == line
            program.send_signal(signal.SIGINT)
        assert program.stdout.read() == "closed\n"
        program.wait(60)


def test_a_sink_sees_a_picture_before_the_loop_draws_into_it(small: dict[str, Any]) -> None:
    class Looking(Sink):
        white = 0

        def write(self, result: Result) -> None:
            time.sleep(0.1)
            self.white += bool((result.image == 255).all())

    sink = Looking()
    for result in detect("demo:", frames=4, settings=small, sinks=[sink]):
        result.image[:] = 255
    assert sink.white == 0


def test_arguments_may_be_numpy_values(small: dict[str, Any]) -> None:
    run = detect(
        "demo:", frames=np.int64(2), threshold=np.float32(0.2), track=np.True_, settings=small
    )  # type: ignore[call-overload,unused-ignore]
    results = list(run)
    assert len(results) == 2
    assert all(result.ids is not None for result in results)
