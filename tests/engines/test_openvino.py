"""The effect of OpenVINO on the process, read from the system."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SIGNAL_STACK = """
import ctypes, sys

class Stack(ctypes.Structure):
    _fields_ = [("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

def signal_stack():
    stack = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.pointer, stack.flags, stack.size

import faulthandler
faulthandler.enable()  # it gives the main thread a signal stack that is large enough
import numpy as np
from squeezedrive import Detector
before = signal_stack()
with Detector(backend="cpu", settings={"network": sys.argv[1]}) as detector:
    detector(np.zeros((96, 320, 3), np.uint8))
    assert signal_stack() == before, (signal_stack(), before)
"""


def test_threads_that_handle_signals_keep_their_signal_stack(small_network: Path) -> None:
    """With AMX, OpenVINO sets a signal stack that is too small for two signals at once."""
    done = subprocess.run(
        [sys.executable, "-c", SIGNAL_STACK, str(small_network)],
        cwd=ROOT, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
