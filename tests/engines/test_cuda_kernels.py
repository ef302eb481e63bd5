"""The CUDA runtime with the project's own kernels, without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(300)
def test_kernels_in_the_simulator_find_the_same_as_the_cpu() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.simulated_runner"],
        cwd=Path(__file__).parents[2], env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.stdout.endswith("the same boxes\n"), done.stdout + done.stderr
