"""Folders, patterns and lists of videos: each file has outputs, a broken file stops no other."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from squeezedrive.engines.errors import GpuLost
from squeezedrive.pipeline.app import files
from squeezedrive.pipeline.app.journal import Journal
from squeezedrive.pipeline.app.page import LivePage
from squeezedrive.pipeline.app.run import RunOutcome
from squeezedrive.pipeline.app.session import Session
from squeezedrive.pipeline.preview.view import STATUS_SECONDS
from squeezedrive.pipeline.sinks.files import lines as line_files
from squeezedrive.pipeline.sources.video import VideoSource
from tests.pipeline.test_video_tracks import write_tracks
from tests.support.media import times, write_video
from tests.support.program import lines_of

ROOT = Path(__file__).resolve().parent.parent
FRAMES = 6
BROKEN = {3: b"", 9: b"no video at all", 17: None}  # contents of files; None: cut off
WHOLE = [k for k in range(1, 21) if k not in BROKEN]
DEADLINE = 200  # seconds, on a machine that runs other programs too


@pytest.fixture(scope="module")
def card_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a card of twenty files, three of them broken."""
    card = tmp_path_factory.mktemp("original") / "card"
    for k in range(1, 21):
        path = card / "DCIM" / f"{100 + k // 11}MEDIA" / f"F{k}.MP4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, FRAMES, size=(320, 192))
        if k in BROKEN:
            content = BROKEN[k]
            path.write_bytes(path.read_bytes()[:-2000] if content is None else content)
    (card / "DCIM" / "100MEDIA" / "._F1.MP4").write_bytes(b"companion")
    return card


@pytest.fixture
def card(card_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the card in the current folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(card_files, tmp_path / "card")).relative_to(tmp_path)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of two videos, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("two").mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_video(Path("two") / name, FRAMES, size=(320, 192))
    return Path("two")


def place(k: int) -> str:
    return f"DCIM/{100 + k // 11}MEDIA/F{k}"


def results(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files with detections, by their names in the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("F*.jsonl")}


def files_in(folder: Path) -> list[str]:
    """Return all files in a folder and below, except hidden ones."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(p.relative_to(folder)) for p in paths if not p.name.startswith("."))


def states(path: Path) -> list[str]:
    return [source["state"] for source in json.loads(path.read_text())["sources"]]


def at_frame(monkeypatch: pytest.MonkeyPatch, name: str, frame: int, act: Any) -> None:
    """Call `act` with the source before this frame of the file `name` is read."""
    read = VideoSource.read

    def watched(source: VideoSource) -> Any:
        if source.info.name.endswith(name) and source.frames_read == frame:
            act(source)
        source.frames_read += 1
        return read(source)

    monkeypatch.setattr(VideoSource, "frames_read", 0, raising=False)
    monkeypatch.setattr(VideoSource, "read", watched)


def send_interrupt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sends Ctrl-C and waits until the run interrupts the source."""
    heard = threading.Event()
    monkeypatch.setattr(VideoSource, "interrupt", lambda source: heard.set())

    def act(_: VideoSource) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert heard.wait(DEADLINE)

    return act


KILLED = """
import os, signal, sys
from squeezedrive.pipeline.app.command_line import main
from squeezedrive.pipeline.sources.video import VideoSource

read = VideoSource.read

def watched(source):
    frame = read(source)
    if source.info.name.endswith("F14.MP4") and frame.frame_id == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return frame

VideoSource.read = watched
main(sys.argv[1:])
"""


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("no_run_is_left")
def test_a_card_of_twenty_files_can_be_interrupted_and_resumed(
    card: Path, run: Any, small_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def arguments(folder: str) -> list[str]:
        return ["card", "-o", f"{folder}/", "--jsonl", folder, "--summary", f"{folder}.json"]

    code, out, err = run(*arguments("whole"))
    assert code == 1, err
    assert "files       17 done, 3 failed\n" in out
    table = out.partition("failed  ")[2].splitlines()[1:]
    assert [line.split()[0] for line in table] == [f"card/{place(k)}.MP4" for k in BROKEN]
    assert all("expected a video" in line for line in table)
    assert err.count("; the other files go on") == 3
    assert err.count("info: backend ") == 1  # all files share one network
    summary = json.loads(Path("whole.json").read_text())
    assert [source["name"] for source in summary["sources"]] == [
        f"card/{place(k)}.MP4" for k in range(1, 21)
    ]
    assert summary["files"] == {"done": 17, "failed": 3}
    assert summary["frames"]["processed"] == 17 * FRAMES
    wanted = sorted(f"{place(k)}{end}" for k in WHOLE for end in (".detected.mp4", ".jsonl"))
    assert files_in(Path("whole")) == wanted

    # Ctrl-C in the middle of a file.
    with monkeypatch.context() as patch:
        at_frame(patch, "F7.MP4", 3, send_interrupt(patch))
        code, out, err = run(*arguments("out"))
    assert code == 130, err
    assert "files       5 done, 1 failed, 1 interrupted, 13 left\n" in out
    assert "--resume to process the remaining" in err
    assert json.loads(Path("out.json").read_text())["ended"] == "SIGINT"
    assert 0 < len(times(Path("out") / f"{place(7)}.detected.mp4")) < FRAMES  # playable
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("F*.*")}

    # A power cut in the middle of another file.
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments("out"), "--resume",
         "--set", f"network={small_network}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    record = Journal().find(Path("out") / f"{place(14)}.jsonl")
    assert record is not None
    assert record.size is None  # begun, not finished
    assert not (Path("out") / f"{place(15)}.jsonl").exists()

    code, out, err = run(*arguments("out"), "--resume")
    assert code == 1, err
    assert "files       11 done before, 6 done, 3 failed\n" in out.replace(
        "3 failed, 6 done", "6 done, 3 failed"
    )
    assert states(Path("out.json")) == [
        "failed" if k in BROKEN else "done before" if k < 14 else "done" for k in range(1, 21)
    ]
    assert files_in(Path("out")) == wanted
    assert results(Path("out")) == results(Path("whole"))
    for k in WHOLE:
        assert len(times(Path("out") / f"{place(k)}.detected.mp4")) == FRAMES
        if k < 7:  # finished outputs were not touched
            for end in (".detected.mp4", ".jsonl"):
                path = Path("out") / f"{place(k)}{end}"
                assert path.stat().st_mtime_ns == before[path]


def test_outputs_beside_the_files_are_not_read(two: Path, run: Any, refused: Any) -> None:
    assert run(two, "--jsonl", two)[0] == 0
    written = ["a.detected.mp4", "a.jsonl", "a.mp4", "b.detected.mp4", "b.jsonl", "b.mp4"]
    assert files_in(two) == written
    assert "a.detected.mp4: exists already; --resume" in refused(two, "--jsonl", two)
    code, out, err = run(two, "--jsonl", two, "--resume")
    assert (code, out) == (0, "files       2 done before\n")
    assert "info: two: videos left out, as this program wrote them: 2" in err
    assert "backend" not in err  # nothing needs the network
    assert files_in(two) == written
    # two/*.mp4 as a shell expands it, and as a pattern that the shell did not expand.
    for sources in (sorted(two.glob("*.mp4")), ["two/*.mp4"]):
        code, out, _ = run(*sources, "--jsonl", two, "--resume")
        assert (code, out) == (0, "files       2 done before\n")


def test_a_single_file_needs_no_folder_of_outputs(two: Path, run: Any) -> None:
    code, out, _ = run(two / "a.mp4")
    assert code == 0
    assert "stage        busy" in out
    assert files_in(two) == ["a.detected.mp4", "a.mp4", "b.mp4"]
    assert not (two / ".squeezedrive.jsonl").exists()
    # With a folder for outputs, a single file is a run of files too.
    assert run(two / "a.mp4", "-o", "out/")[0] == 0
    assert files_in(Path("out")) == ["a.detected.mp4"]


def test_resume_repeats_files_whose_source_or_settings_changed(
    two: Path, run: Any, refused: Any
) -> None:
    arguments = [two, "--no-video", "--jsonl", "out"]
    assert run(*arguments)[0] == 0
    first, second = Path("out/a.jsonl"), Path("out/b.jsonl")
    header = lines_of(first)[0]
    # The number of threads does not change the results.
    assert "2 done before" in run(*arguments, "--resume", "--set", "cpu.threads=1")[1]
    # With other settings, finished outputs are not replaced without -y.
    assert "a.jsonl: was finished with other settings" in refused(*arguments, "--resume", "-n", "2")
    assert "2 done" in run(*arguments, "--resume", "-y", "-n", "2")[1]
    assert len(lines_of(first)) == 3
    assert "2 done" in run(*arguments, "--resume", "-y")[1]
    assert lines_of(first)[0] == header
    # One more kind of output.
    assert "2 done" in run(*arguments, "--resume", "--csv", "out")[1]
    assert files_in(Path("out")) == ["a.csv", "a.jsonl", "b.csv", "b.jsonl"]
    assert "2 done before" in run(*arguments, "--resume")[1]
    # One video is replaced by another.
    write_video(two / "b.mp4", FRAMES + 2, size=(320, 192))
    assert "b.jsonl: was finished with other settings" in refused(*arguments, "--resume")
    assert "1 done before, 1 done" in run(*arguments, "--resume", "-y")[1]
    assert len(lines_of(second)) == FRAMES + 3
    # A missing output is made again, a changed one is not replaced without -y.
    first.unlink()
    second.write_text(second.read_text() + "\n")
    assert "b.jsonl: was finished with other settings" in refused(*arguments, "--resume")
    second.unlink()
    _, out, err = run(*arguments, "--resume")
    assert "2 done" in out, err
    # Outputs that are not in the journal are not replaced either.
    Path("out/.squeezedrive.jsonl").unlink()
    assert "a.jsonl: exists already, but no run" in refused(*arguments, "--resume")


def test_unfinished_outputs_are_replaced(
    two: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [two, "-o", "out/", "--kitti", "out", "--csv", "out"]
    with monkeypatch.context() as patch:
        at_frame(patch, "b.mp4", 3, send_interrupt(patch))
        assert run(*arguments)[0] == 130
    assert len(times(Path("out/b.detected.mp4"))) < FRAMES
    code, out, err = run(*arguments, "--resume")
    assert code == 0, err
    assert "files       1 done before, 1 done\n" in out
    assert len(times(Path("out/b.detected.mp4"))) == FRAMES
    assert len(list(Path("out/b").iterdir())) == FRAMES
    assert "2 done before" in run(*arguments, "--resume")[1]


def test_a_list_may_contain_comments(two: Path, run: Any) -> None:
    Path("list.txt").write_bytes(
        b"\xef\xbb\xbf# the second camera\r\n\r\ntwo/b.mp4\r\ntwo/a.mp4\r\ntwo/b.mp4\r\n"
    )
    code, _, err = run("@list.txt", "--no-video", "--jsonl", "out", "--summary", "all.json")
    assert code == 0, err
    sources = json.loads(Path("all.json").read_text())["sources"]
    assert [source["name"] for source in sources] == ["two/b.mp4", "two/a.mp4"]
    assert files_in(Path("out")) == ["a.jsonl", "b.jsonl"]


def test_summaries_are_written_for_each_file_and_for_all(two: Path, run: Any) -> None:
    (two / "c.mp4").touch()
    code, out, _ = run(two, "--no-video", "--csv", "out", "--summary", "sum/")
    assert code == 1
    assert files_in(Path("sum")) == ["a.summary.json", "b.summary.json", "summary.json"]
    each = json.loads(Path("sum/a.summary.json").read_text())
    assert each["frames"]["processed"] == FRAMES
    assert each["stages"]["inference"]["frames"] == FRAMES
    total = json.loads(Path("sum/summary.json").read_text())
    assert total["files"] == {"done": 2, "failed": 1}
    assert [source.get("frames", {}).get("processed") for source in total["sources"]] == [
        FRAMES, FRAMES, None,
    ]  # fmt: skip
    assert total["frames"]["processed"] == 2 * FRAMES
    assert total["outputs"] == ["out/a.csv", "out/b.csv"]
    assert "expected a video" in total["sources"][2]["error"]
    assert f"{2 * FRAMES} read, {2 * FRAMES} processed" in out


def test_every_track_has_outputs(two: Path, run: Any, refused: Any) -> None:
    write_tracks(two / "cameras.mp4", 2)
    arguments = [two, "--track-index", "all", "-o", "out/", "--jsonl", "out"]
    code, out, err = run(*arguments)
    assert code == 0, err
    assert "files       4 done\n" in out
    names = ["a", "b", "cameras.track0", "cameras.track1"]
    assert files_in(Path("out")) == [
        f"{name}{end}" for name in names for end in (".detected.mp4", ".jsonl")
    ]
    sizes = [lines_of(Path(f"out/cameras.track{track}.jsonl"))[1]["width"] for track in (0, 1)]
    assert sizes == [160, 96]
    assert "video tracks" not in err  # no warning about tracks left out
    assert "4 done before" in run(*arguments, "--resume")[1]
    # A single file, and a source that is not a file.
    assert run(two / "cameras.mp4", "--track-index", "all")[0] == 0
    assert (two / "cameras.track1.detected.mp4").exists()
    assert "all: expected a file" in refused("demo:", "--track-index", "all", "--no-video")


def test_pictures_in_a_folder_are_one_sequence(two: Path, run: Any) -> None:
    import cv2

    from tests.support.media import picture

    folder = Path("pictures")
    folder.mkdir()
    for number in range(3):
        assert cv2.imwrite(str(folder / f"{number}.png"), picture(number))
    assert run(folder, "--no-video", "--jsonl", "alone.jsonl")[0] == 0
    assert len(lines_of(Path("alone.jsonl"))) == 4
    code, _, err = run(folder, two / "a.mp4", "--no-video", "--jsonl", "out")
    assert code == 0, err
    assert files_in(Path("out")) == ["a.jsonl", "pictures.jsonl"]
    assert "2 done before" in run(folder, two / "a.mp4", "--no-video", "--jsonl", "out",
                                  "--resume")[1]  # fmt: skip


def test_wrong_options_are_refused_before_any_file_is_read(two: Path, refused: Any) -> None:
    for arguments, part in (
        (["-o", "none/out"], "the folder"),
        (["-o", "out.avi"], "expected a name that ends in .mp4"),
        (["-o", "-"], "--output -: cannot go to standard output; name a file"),
        (["--jsonl", "-"], "standard output is for one source"),
        (["--show"], "--show: expected one source, got several"),
        (["--profile", "profile"], "--profile: expected a single source"),
        (["--no-video", "--resume"], "--resume: expected outputs in files"),
        (["--no-video", "--segment", "1"], "neither is written"),
        (["--segment", "1", "--keep", "1"], "record.keep: limits one recording"),
        (["--sweep", "video.crf=20,30", "-y"], "--sweep"),
        ([two / "none.mp4"], "two/none.mp4: no such file"),
    ):
        assert part in refused(two, *arguments), arguments
    assert "--resume: expected files" in refused("demo:", "--resume")
    assert files_in(Path()) == ["two/a.mp4", "two/b.mp4"]


def test_a_fault_in_one_file_does_not_end_the_others(
    two: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: VideoSource) -> None:
        raise ValueError("a fault of ours")

    at_frame(monkeypatch, "a.mp4", 2, fail)
    code, out, err = run(two, "--no-video", "--jsonl", "out")
    assert code == 1
    assert "files       1 failed, 1 done\n" in out
    assert "stage capture failed: ValueError: a fault of ours" in out
    assert "Traceback" in err  # the error is in the program itself
    assert len(lines_of(Path("out/b.jsonl"))) == FRAMES + 1


def test_a_fault_that_concerns_all_files_ends_the_run(
    two: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(_: VideoSource) -> None:
        raise GpuLost("the GPU does not answer")

    at_frame(monkeypatch, "a.mp4", 2, lose)
    code, out, err = run(two, "--no-video", "--jsonl", "out")
    assert code == 2
    assert "files       1 failed, 1 left\n" in out
    assert "error: the GPU does not answer" in err
    assert "--resume to process the remaining" in err


def test_an_option_with_which_no_file_can_be_opened_ends_the_run(two: Path, run: Any) -> None:
    code, out, err = run(two, "--no-video", "--jsonl", "out", "--set", "queue.batch=9")
    assert code == 2
    assert "files       1 failed, 1 left\n" in out
    assert "error: queue.batch: back end cpu takes at most 8 at once, got 9" in err
    assert files_in(Path()) == ["two/a.mp4", "two/b.mp4"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, (2, "1 failed, 1 left")), (errno.ENAMETOOLONG, (1, "2 failed"))],
)
def test_a_full_disk_ends_the_run(
    two: Path, run: Any, monkeypatch: pytest.MonkeyPatch, number: int, expected: tuple[int, str]
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(line_files, "write_all", refuse)
    code, out, _ = run(two, "--no-video", "--csv", "out")
    assert (code, out.splitlines()[0]) == (expected[0], f"files       {expected[1]}")


def test_the_live_page_stays_open(
    two: Path, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls: list[str] = []
    seen: list[tuple[str, bool]] = []
    begin, watch = LivePage.show, files.watch_session

    def show(page: LivePage, status: Any) -> None:
        urls.append(page._server.url)
        begin(page, status)

    def fetch(address: str) -> bytes:
        with urllib.request.urlopen(address, timeout=DEADLINE) as answer:
            return bytes(answer.read())

    def watched(session: Session, *others: Any) -> RunOutcome:
        outcome = watch(session, *others)
        (source,) = json.loads(fetch(f"{urls[-1]}status"))["sources"]
        seen.append((source["name"], fetch(f"{urls[-1]}pictures/0?last=0")[:2] == b"\xff\xd8"))
        time.sleep(STATUS_SECONDS)  # the page may repeat a status for so long
        return outcome

    monkeypatch.setattr(LivePage, "show", show)
    monkeypatch.setattr(files, "watch_session", watched)
    code, _, err = run(two, "--no-video", "--jsonl", f"{tmp_path}/out/", "--preview", "0")
    assert code == 0, err
    assert seen == [("two/a.mp4", True), ("two/b.mp4", True)]
    assert len(urls) == 2
    assert urls[0] == urls[1]
    assert err.count("live page: ") == 1
    with pytest.raises(urllib.error.URLError):  # the page closes when the run ends
        fetch(f"{urls[0]}status")
