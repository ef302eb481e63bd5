"""The package as a library: detect() and Detector, used as in a user's program."""

import gc
import json
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import squeezedrive
from squeezedrive import (
    ConfigError,
    DetectionRun,
    Detector,
    Result,
    SinkError,
    SourceError,
    UserError,
    detect,
)
from tests.servers.process import Server
from tests.support.media import write_video
from tests.support.threads import threads_of_runs

ROOT = Path(__file__).resolve().parent.parent
END_SECONDS = 10.0  # for all threads of a run to end; two are promised on an idle machine
FRAMES = 90  # of the fixture `drive`


pytestmark = pytest.mark.usefixtures("no_run_is_left")


def test_results_equal_the_programs_output(
    drive: Path, small: dict[str, Any], run: Any, tmp_path: Path
) -> None:
    jsonl = tmp_path / "out.jsonl"
    code, _, err = run(
        drive, "--no-video", "--track", "-t", "0.05", "--backend", "cpu", "--jsonl", jsonl
    )
    assert code == 0, err
    written = [json.loads(line) for line in jsonl.read_text().splitlines()[1:]]
    results = list(detect(drive, track=True, settings=small))
    assert [result.to_dict() for result in results] == written
    assert any(len(result) for result in results)
    for number, result in enumerate(results):  # each stays valid after the next ones
        count = len(result)
        assert (result.frame, result.source, result.pts) == (number, 0, number / 25)
        assert result.image.shape == (192, 320, 3)
        assert result.boxes.shape == (count, 4)
        assert result.boxes.dtype == result.scores.dtype == np.float32
        assert len(result.class_names) == len(result.classes) == count
        assert result.ids is not None
        assert len(result.ids) == count
        assert result.detected
    # Each result owns its picture; no two share memory.
    assert len({result.image.ctypes.data for result in results}) == FRAMES
    assert not np.array_equal(results[0].image, results[40].image)


def test_options_are_those_of_the_command_line(drive: Path, small: dict[str, Any]) -> None:
    results = list(
        detect(
            drive, classes=["car"], threshold=0.2, frames=9, start=1.0, detect_every=3,
            settings={"network": small["network"]},
        )
    )  # fmt: skip
    assert [result.frame for result in results] == list(range(25, 34))
    assert [result.detected for result in results] == [True, False, False] * 3
    names = {name for result in results for name in result.class_names}
    assert names <= {"car"}
    plain = detect(
        drive, threshold=0.2, frames=9, track=False, settings={"network": small["network"]}
    )
    assert min(score for result in plain for score in result.scores) >= 0.2


def first_of(run: DetectionRun) -> Result:
    for result in run:
        return result
    raise AssertionError("no result")


def leave_by_break(run: Callable[[], DetectionRun]) -> None:
    for _ in run():
        break


def leave_by_exception(run: Callable[[], DetectionRun]) -> None:
    def fail() -> None:
        for _ in run():
            raise KeyError("the user's own")

    with pytest.raises(KeyError):  # the traceback still refers to the run
        fail()


def leave_with_block(run: Callable[[], DetectionRun]) -> None:
    with run() as results:
        next(results)
    assert list(results) == []


def leave_by_collection(run: Callable[[], DetectionRun]) -> None:
    results = run()
    next(results)
    del results
    gc.collect()


def leave_unused(run: Callable[[], DetectionRun]) -> None:
    run().close()


@pytest.mark.parametrize(
    "leave",
    [leave_by_break, leave_by_exception, leave_with_block, leave_by_collection, leave_unused],
)
def test_no_thread_is_left_after_the_results(
    leave: Callable[[Callable[[], DetectionRun]], None], small: dict[str, Any]
) -> None:
    leave(lambda: detect("demo:loop", settings=small))
    began = time.monotonic()
    while threads_of_runs() and time.monotonic() - began < END_SECONDS:
        time.sleep(0.02)
    assert not threads_of_runs()


SCRIPT = """
import sys, time
from squeezedrive import detect
results = detect("demo:loop", settings={"network": sys.argv[1], "backend": "cpu"})
for result in results:
    print("result", flush=True)
    BODY
"""


@pytest.mark.parametrize(
    ("body", "sent", "code"),
    [("pass", signal.SIGINT, -signal.SIGINT), ("time.sleep(60)", signal.SIGINT, -signal.SIGINT),
     ("raise ValueError('mine')", None, 1), ("sys.exit(3)", None, 3)],
)  # fmt: skip
def test_a_program_ends_with_ctrl_c_or_an_exception(
    small_network: Path, body: str, sent: int | None, code: int
) -> None:
    """The program ends although a variable still refers to the run."""
    script = SCRIPT.replace("BODY", body)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(small_network)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        assert program.stdout.readline() == "result\n"
        if sent is not None:
            program.send_signal(sent)
        program.stdout.read()
        assert program.wait(60) == code


def test_two_runs_at_once_in_one_process(drive: Path, small: dict[str, Any]) -> None:
    one, other = detect(drive, settings=small), detect(drive, settings=small)
    pairs = [(a.to_dict(), b.to_dict()) for a, b in zip(one, other, strict=True)]
    assert len(pairs) == FRAMES
    assert all(a == b for a, b in pairs)


def test_several_sources_share_a_run(drive: Path, small: dict[str, Any]) -> None:
    run = detect([drive, "demo:"], frames=5, settings=small)
    assert run.sources == (str(drive), "demo")
    results = list(run)
    for source in (0, 1):
        assert [r.frame for r in results if r.source == source] == list(range(5))


def test_frames_are_dropped_if_the_loop_is_slower_than_the_camera(small: dict[str, Any]) -> None:
    """Newer frames replace older ones; the run and its camera end with the loop."""
    camera = Server("mjpeg", "--fps=20")
    try:
        with detect(camera.url(), config="live", track=True, settings=small) as results:
            frames = []
            for result in results:
                frames.append(result.frame)
                time.sleep(0.3)
                if len(frames) == 8:
                    break
    finally:
        camera.kill()
    assert frames == sorted(set(frames))
    assert frames[-1] - frames[0] > 2 * len(frames)


def test_a_missing_camera_is_an_error_at_once(small: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match="77"):
        detect(77, settings=small)


class Keeper:
    """A sink as a user writes it."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.closed = 0

    def write(self, result: Result) -> None:
        self.results.append(result)

    def close(self) -> None:
        self.closed += 1


def test_a_user_can_pass_sinks_drawing_and_outputs(
    drive: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    def draw(result: Result) -> None:
        result.image[:] = result.frame

    keeper = Keeper()
    outputs = {"jsonl": tmp_path / "out.jsonl", "output": tmp_path / "out.mp4"}
    results = list(
        detect(drive, frames=8, draw=draw, sinks=[keeper], outputs=outputs, settings=small)
    )
    assert [result.to_dict() for result in keeper.results] == [r.to_dict() for r in results]
    assert all((result.image == result.frame).all() for result in results)
    assert keeper.closed == 1
    assert len(outputs["jsonl"].read_text().splitlines()) == 9
    video = cv2.VideoCapture(str(outputs["output"]))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 8
    assert video.read()[1].mean() < 5  # the first picture is black
    with pytest.raises(SinkError, match=r"out\.mp4: exists already"):
        detect(drive, outputs=outputs, settings=small)


def test_boxes_are_drawn_when_asked_for(drive: Path, small: dict[str, Any]) -> None:
    plain = list(detect(drive, frames=3, settings=small))
    drawn = list(detect(drive, frames=3, draw=True, settings=small))
    assert any(not np.array_equal(a.image, b.image) for a, b in zip(plain, drawn, strict=True))


def test_an_error_in_a_sink_is_raised_in_the_loop(drive: Path, small: dict[str, Any]) -> None:
    class Broken(Keeper):
        def write(self, result: Result) -> None:
            if result.frame == 4:
                raise ZeroDivisionError("the user's own")

    with pytest.raises(RuntimeError, match="the user's own") as caught:
        list(detect(drive, sinks=[Broken()], settings=small))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_failing_source_gives_its_frames_before_the_error(
    small: dict[str, Any], tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole.mp4", tmp_path / "empty.mp4"
    write_video(whole, 10, size=(320, 192))
    cut.write_bytes(b"")
    with pytest.raises(SourceError, match=r"empty\.mp4"):
        list(detect(cut, settings=small))
    assert len(list(detect(whole, settings=small))) == 10


@pytest.mark.parametrize(
    ("source", "arguments", "error", "message"),
    [
        ("none.mp4", {}, SourceError, "none.mp4: no such file"),
        ([], {}, ConfigError, "source: expected at least one"),
        (None, {}, ConfigError, "source: expected a name, a path or a number, got NoneType"),
        (b"demo:", {}, ConfigError, "source: expected a name, a path or a number, got bytes"),
        (np.int64(99), {}, SourceError, "camera 99"),
        ("demo:", {"threshold": 3}, ConfigError, "threshold: detect.threshold: expected"),
        ("demo:", {"settings": {"queue.dept": 1}}, ConfigError, "did you mean queue.depth?"),
        ("demo:", {"outputs": {"jsonlines": "x"}}, ConfigError, "outputs: expected some of"),
        ("demo:", {"classes": ["lorry"]}, ConfigError, "unknown class 'lorry'"),
        ("demo:", {"config": "none.yaml"}, ConfigError, "none.yaml: cannot read"),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    source: Any, arguments: dict[str, Any], error: type[UserError], message: str,
    small: dict[str, Any],
) -> None:  # fmt: skip
    settings = {**small, **arguments.pop("settings", {})}
    with pytest.raises(error, match="(?s)" + message.replace("?", r"\?")):
        detect(source, settings=settings, **arguments)


@pytest.fixture(scope="module")
def street(drive: Path) -> np.ndarray[Any, Any]:
    return next(detect(drive)).image


def test_a_detector_takes_pictures_of_any_size(
    street: np.ndarray[Any, Any], drive: Path, small: dict[str, Any]
) -> None:
    before = street.copy()
    with Detector(settings=small) as detector:
        alone = detector(street)
        several = detector([street, street[:150, :200], street])
    assert [result.frame for result in several] == [0, 1, 2]
    assert several[1].image.shape == (150, 200, 3)
    assert alone.boxes.tolist() == several[0].boxes.tolist() == several[2].boxes.tolist()
    assert len(alone)
    assert alone.ids is None
    assert np.array_equal(street, before)
    first = next(detect(drive, track=False, settings={**small, "cpu.streams": 1}))
    assert alone.boxes.tolist() == first.boxes.tolist()


def test_threads_share_a_detector(street: np.ndarray[Any, Any], small: dict[str, Any]) -> None:
    found: list[list[Any]] = []
    with Detector(settings=small) as detector:
        threads = [
            threading.Thread(target=lambda: found.append(detector(street).boxes.tolist()))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == [detector(street).boxes.tolist()] * 4


def test_a_detector_refuses_what_is_not_a_picture(small: dict[str, Any]) -> None:
    with Detector(settings=small) as detector:
        for wrong in (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32), "picture.png"):
            with pytest.raises(SourceError, match=r"picture 1: expected a uint8 array"):
                detector([np.zeros((9, 9, 3), np.uint8), wrong])  # type: ignore[list-item]
        for alone in (np.zeros((9, 8), np.uint8), None):  # None: from cv2.imread, no such file
            with pytest.raises(SourceError, match=r"got (uint8 \(9, 8\)|NoneType)"):
                detector(alone)  # type: ignore[call-overload]
        assert detector([]) == []
    with pytest.raises(RuntimeError, match="closed"):
        detector(np.zeros((9, 9, 3), np.uint8))


def test_results_for_supervision(
    street: np.ndarray[Any, Any], small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Detector(settings=small) as detector:
        result = detector(street)
    library = types.ModuleType("supervision")
    library.Detections = types.SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", library)
    taken = result.to_supervision()
    assert np.array_equal(taken.xyxy, result.boxes)
    assert np.array_equal(taken.confidence, result.scores)
    assert taken.class_id.dtype.kind == "i"
    assert taken.tracker_id is None
    assert taken.data["class_name"].tolist() == result.class_names
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        result.to_supervision()


def test_results_of_the_real_supervision(
    street: np.ndarray[Any, Any], small: dict[str, Any]
) -> None:
    library = pytest.importorskip("supervision", reason="supervision is not installed")
    result = next(detect("demo:", track=True, settings=small))
    taken = result.to_supervision()
    assert isinstance(taken, library.Detections)
    assert len(taken) == len(result)
    assert len(taken[taken.confidence > 0.1]) == int((result.scores > 0.1).sum())


def test_public_names_are_imported_on_first_use() -> None:
    assert set(squeezedrive.__all__) <= set(dir(squeezedrive))
    for name in squeezedrive.__all__:
        assert getattr(squeezedrive, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'detekt'"):
        squeezedrive.detekt  # noqa: B018
    script = "import sys, squeezedrive; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
