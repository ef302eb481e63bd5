"""The CUDA path on a substitute for a GPU: real PTX, real driver packages, host memory."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.support import substitute

SECONDS = 300  # ten times the duration on two idle cores
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(SECONDS + 60),
    pytest.mark.skipif(
        not substitute.FOLDER.is_dir(),
        reason=f"needs the substitute for a GPU, not found at {substitute.FOLDER}"
        " (SQUEEZEDRIVE_SHARED)",
    ),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
]


def test_the_kernels_pass_all_checks_on_their_real_ptx() -> None:
    done = substitute.run_kernels(SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "never launched" not in done.stdout
    launches, problems = re.findall(r"(\d+) launches, (\d+) problems", done.stdout)[-1]
    assert int(launches) > 100, done.stdout
    assert problems == "0", done.stdout


@pytest.mark.parametrize("group", substitute.GROUPS)
def test_the_real_driver_packages_accept_our_calls(group: str) -> None:
    if substitute.pycuda_folder() is None:
        pytest.skip("the substitute has no PyCUDA yet: python -m tests.support.substitute, 3-8 min")
    done = substitute.run_checks(group, SECONDS)
    report = done.stdout + done.stderr
    assert done.returncode == 0, report
    assert re.match("PASS ", done.stdout), report
    assert "FAIL" not in done.stdout, report
    for noise in ("NumbaPerformanceWarning", "Exception ignored", "Traceback"):
        assert noise not in done.stderr, report
