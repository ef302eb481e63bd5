"""A worker of `tests.fuzz` with a target that shows every fault that the fuzzer looks for."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tests.fuzz import observe, worker
from tests.fuzz.case import Case
from tests.fuzz.targets import TARGETS, Target

KEPT: list[object] = []


def misbehave(case: Case) -> int:
    """Show the fault that the case names."""
    (how,) = case.arguments
    if how == "exception":
        raise KeyError("x")
    if how == "traceback":
        thread = threading.Thread(target=lambda: 1 // 0)
        thread.start()
        thread.join()
    elif how == "died":
        ctypes.string_at(0)
    elif how == "hang":
        time.sleep(3600)
    elif how == "slow":
        end = time.process_time() + 1.2 * observe.MAX_SECONDS
        while time.process_time() < end:
            pass
    elif how == "memory":
        np.ones(observe.MAX_MEMORY // 8 + 1)
    elif how == "forbidden":
        Path("../beside").touch()
    elif how == "unseen":  # as a C library would
        system = ctypes.CDLL(None)
        system.close(system.open(b"in/new", os.O_WRONLY | os.O_CREAT, 0o600))
    elif how == "connects":
        sys.audit("socket.connect", None, ("example.org", 80))
    elif how == "thread":
        threading.Thread(target=time.sleep, args=(3600,), daemon=True, name="left").start()
    elif how == "handle":
        KEPT.append(os.open(os.devnull, os.O_RDONLY))
    elif how == "code":
        return 1
    elif how == "silent":
        return 2
    elif how == "lines":
        print("error: one\nerror: two", file=sys.stderr)
        return 2
    elif how == "long":
        print("error: " + "x" * 5000, file=sys.stderr)
        return 2
    elif how == "noise":
        warnings.warn("overflow", RuntimeWarning, stacklevel=1)
    elif how == "control":
        logging.getLogger("x").error("error: \x1b[31m")
    elif how == "good":
        Path("out/new").touch()
        print("error: x: expected something else", file=sys.stderr)
        return 2
    return 0


HOW = (
    "good", "exception", "traceback", "forbidden", "unseen", "connects", "thread", "handle", "code",
    "silent", "lines", "long", "noise", "control", "memory", "slow", "died", "good",
)  # fmt: skip

HANGS = len(HOW)  # number of the input "hang"

TARGETS["misbehaving"] = Target(
    lambda: st.sampled_from(HOW).map(lambda how: Case((how,))), misbehave, 0, 0
)


def _in_turn(name: str, target: Target, number: int, first: int) -> list[Case]:
    return [Case((how,), {"file": how.encode()}) for how in (*HOW, "hang")[first:]]


if __name__ == "__main__":
    observe.MAX_MEMORY, observe.MAX_SECONDS = 1 << 28, 1.0
    observe.THREAD_SECONDS = 0.1
    worker.cases_of = _in_turn  # type: ignore[assignment]
    worker.main()
