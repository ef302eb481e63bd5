"""OpenVINO's effects on the process: signal stacks, imported modules and written files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS = re.compile(r"[.]compile_model\b|\bov[.]Core\b|import[ ]Core\b")
SIGNAL_STACK = """
import ctypes, sys

class Stack(ctypes.Structure):
    _fields_ = [("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

def signal_stack():
    stack = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.pointer, stack.flags, stack.size

import faulthandler
faulthandler.enable()  # gives the main thread a signal stack that is large enough
import numpy as np
from squeezedrive import Detector
before = signal_stack()
with Detector(backend="cpu", settings={"network": sys.argv[1]}) as detector:
    detector(np.zeros((96, 320, 3), np.uint8))
    assert signal_stack() == before, (signal_stack(), before)
"""

# Blocked signals are delivered together, so the stack must hold the frames of all of them.
BURSTS = """
import os, signal, sys
import numpy as np
from squeezedrive import Detector

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
received = []
for number in SIGNALS:
    signal.signal(number, lambda number, _: received.append(number))
with Detector(backend="cpu", settings={"network": sys.argv[1]}) as detector:
    for _ in range(20):
        detector(np.zeros((96, 320, 3), np.uint8))
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
assert sorted(received) == sorted(SIGNALS * 20), received
"""


def test_a_model_leaves_the_threads_that_handle_signals_their_stack(small_network: Path) -> None:
    """On processors with AMX, OpenVINO sets a signal stack too small for two signals at once."""
    run_in_a_process(SIGNAL_STACK, small_network)


def test_bursts_of_signals_are_survived_beside_a_model(small_network: Path) -> None:
    """On processors with AMX, each signal frame holds its registers: five need up to 60 kB."""
    run_in_a_process(BURSTS, small_network)


def run_in_a_process(program: str, network: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, str(network)],
        cwd=ROOT, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_models_are_compiled_in_one_place() -> None:
    """A thread that calls OpenVINO's own function gets the small signal stack."""
    files = [
        f
        for top in ("engines", "pipeline", "squeezedrive", "tests")
        for f in (ROOT / top).rglob("*.py")
    ]
    found = {
        f.resolve().relative_to(ROOT).as_posix()
        for f in files
        if CALLS.search(f.read_text("utf-8"))
    }
    assert found == {"engines/backends/cpu/openvino.py"}


QUIET = """
import os, sys, threading
from squeezedrive import Detector
from squeezedrive.engines.quantisation import calibrate
with Detector(backend="cpu", settings={"network": sys.argv[1]}):
    assert "openvino" in sys.modules
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
assert not os.path.exists(os.environ["HOME"] + "/intel")
"""


def test_nothing_is_reported_to_anybody(
    small_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO reports its import to Google Analytics if its telemetry package is installed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    run_in_a_process(QUIET, small_network)
