"""The tests of the CUDA kernels, run in Numba's simulator.

Numba decides whether to simulate when it is imported, so the tests need a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run_simulated(chosen: str, *names: str) -> None:
    files = [HERE / name for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", chosen, *files],
        cwd=HERE.parent.parent,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    if done.returncode != 0 or "skipped" in done.stdout:
        pytest.fail(done.stdout + done.stderr, pytrace=False)


@pytest.mark.timeout(400)
def test_kernels_pass_with_small_inputs() -> None:
    chosen = "not published_network and not full_size"
    run_simulated(chosen, "test_cuda_preprocess.py", "test_cuda_detect.py", "test_cuda_draw.py")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_detection_passes_at_full_size() -> None:
    run_simulated("published_network and float16", "test_cuda_detect.py")
