"""How runs end: by signals, kills, full disks, and outputs that close or block."""

import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.media import times
from tests.support.program import lines_of, readable_frames, start, wait_for_lines


def test_a_closed_standard_output_does_not_end_the_run(
    small_network: Path, clip: Path, tmp_path: Path
) -> None:
    video = tmp_path / "out.mp4"
    process = start(clip, "-o", video, "--set", f"network={small_network}")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(100) == 0, err
    assert "Traceback" not in err
    assert len(times(video)) == 12


def test_an_output_that_blocks_can_be_interrupted(
    small_network: Path, clip: Path, tmp_path: Path
) -> None:
    jsonl, kitti = tmp_path / "out.jsonl", tmp_path / "kitti"
    kitti.mkdir()
    os.mkfifo(kitti / "000000.txt.tmp")  # it has no reader, so opening it blocks
    process = start(clip, "--no-video", "--jsonl", jsonl, "--kitti", kitti,
                    "--set", f"network={small_network}")  # fmt: skip
    wait_for_lines(process, jsonl, 2)  # the program opens the pipe next
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)  # two SIGINT might arrive as one
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "sinks: a file or device does not answer" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_a_signal_ends_the_run_with_finished_outputs(
    small_network: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    video, jsonl = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    process = start(
        "demo:loop", "-o", video, "--jsonl", jsonl,
        "--set", f"network={small_network}",
    )  # fmt: skip
    wait_for_lines(process, jsonl, 30)
    process.send_signal(number)
    out, err = process.communicate(timeout=100)
    assert process.returncode == code, err
    lines = lines_of(jsonl)[1:]
    assert len(times(video)) == len(lines) >= 29
    assert f"{len(lines):,} processed" in out
    assert "Traceback" not in err


def test_outputs_can_be_read_after_a_kill(small_network: Path, tmp_path: Path) -> None:
    video, jsonl = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    process = start(
        "demo:loop", "-o", video, "--jsonl", jsonl,
        "--set", f"network={small_network}",
    )  # fmt: skip
    wait_for_lines(process, jsonl, 100)
    process.kill()
    process.communicate(timeout=60)
    lines = lines_of(jsonl)[1:]
    lost = len(lines) - readable_frames(video)
    assert lost <= 45  # frames at 25 fps that the encoder and the open fragment held


def test_a_full_disk_ends_the_run_and_keeps_what_was_written(
    small_network: Path, tmp_path: Path
) -> None:
    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    video, jsonl = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    process = start(
        "demo:loop", "-o", video, "--jsonl", jsonl,
        "--set", f"network={small_network}", "--set", "video.preset=ultrafast", preexec_fn=no_room,
    )  # fmt: skip
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert f"error: {video}: cannot be written: File too large" in err
    assert "Traceback" not in err
    lost = len(lines_of(jsonl)) - readable_frames(video)
    assert len(lines_of(jsonl)) > 1
    assert lost <= 45  # as after a kill


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_for_the_detections_still_finishes_the_video(
    refused: Any, clip: Path, tmp_path: Path
) -> None:
    message = refused(clip, "--jsonl", "/dev/full", "-o", tmp_path / "out.mp4")
    assert "/dev/full: cannot write: No space left on device" in message
