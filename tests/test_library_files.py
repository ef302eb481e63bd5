"""The library with folders and lists of videos, which are read one after the other."""

import gc
import logging
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from squeezedrive import Result, SinkError, SourceError, detect
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.sources.video import VideoSource
from tests.pipeline.test_video_tracks import write_tracks
from tests.support.media import write_video

FRAMES = 6

pytestmark = pytest.mark.usefixtures("no_run_is_left")


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """Return a folder of three videos, of which the second is broken."""
    folder = tmp_path / "card"
    (folder / "below").mkdir(parents=True)
    for path in (folder / "1.mp4", folder / "below" / "3.mp4"):
        write_video(path, FRAMES, size=(320, 192))
    (folder / "2.mp4").write_text("no video")
    return folder


class Keeper:
    """A sink as a user writes it."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, int]] = []
        self.closed = 0

    def write(self, result: Result) -> None:
        self.frames.append((result.source, result.frame))

    def close(self) -> None:
        self.closed += 1


def test_the_videos_of_a_folder_are_read_in_turn(
    card: Path, small: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "squeezedrive")
    sink = Keeper()
    run = detect(card, sinks=[sink], track=True, settings=small)
    assert run.sources == tuple(str(card / name) for name in ("1.mp4", "2.mp4", "below/3.mp4"))
    frames = [(result.source, result.frame) for result in run]
    assert frames == [(source, frame) for source in (0, 2) for frame in range(FRAMES)]
    assert sink.frames == frames
    assert sink.closed == 1
    ((name, error),) = run.failed.items()
    assert name == str(card / "2.mp4")
    assert isinstance(error, SourceError)
    texts = [record.getMessage() for record in caplog.records]
    assert sum(text.startswith("backend ") for text in texts) == 1
    assert sum("the other files go on" in text for text in texts) == 1


def test_a_pattern_or_a_list_can_be_read(card: Path, small: dict[str, Any]) -> None:
    for source in (str(card / "**" / "*.mp4"), [card / "1.mp4", str(card / "below")]):
        counts = Counter(result.source for result in detect(source, settings=small, frames=2))
        assert sorted(counts.values()) == [2, 2]


def test_each_file_has_its_own_outputs(card: Path, small: dict[str, Any], tmp_path: Path) -> None:
    outputs = {"jsonl": tmp_path / "out", "output": f"{tmp_path}/v.2/"}
    for _ in detect(card, outputs=outputs, settings={**small, "video.write": True}):
        pass
    for name in ("1", "below/3"):
        assert (tmp_path / "out" / f"{name}.jsonl").exists()
        assert (tmp_path / "v.2" / f"{name}.detected.mp4").exists()
    with pytest.raises(SinkError, match="exists already"):
        detect(card, outputs=outputs, settings=small)


def test_every_video_track_can_be_read(tmp_path: Path, small: dict[str, Any]) -> None:
    write_tracks(tmp_path / "a.mp4", 2)
    run = detect(tmp_path / "a.mp4", settings={**small, "source.track_index": "all"})
    widths = {result.source: result.image.shape[1] for result in run}
    assert widths == {0: 160, 1: 96}


def test_a_break_ends_all_files(card: Path, small: dict[str, Any]) -> None:
    shutil.copy(card / "1.mp4", card / "0.mp4")
    sink = Keeper()
    for result in detect(card, sinks=[sink], settings=small):
        if result.source == 1:
            break
    gc.collect()
    assert sink.closed == 1
    assert max(source for source, _ in sink.frames) == 1
    with detect(card, settings=small) as run:  # before anything was read
        pass
    assert list(run) == []


def test_an_exception_of_the_user_is_passed_through(card: Path, small: dict[str, Any]) -> None:
    class Refusing(Keeper):
        def write(self, result: Result) -> None:
            raise SourceError("of the sink's own")

    sink = Refusing()
    run = detect(card, sinks=[sink], settings=small)
    with pytest.raises(SourceError, match="of the sink's own"):
        list(run)
    assert run.failed == {}
    assert sink.closed == 1


def test_a_file_that_fails_before_its_first_frame_is_reported_once(
    card: Path, small: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    read = VideoSource.read

    def refuse(source: VideoSource) -> Frame | None:
        if "1.mp4" in source.info.name:
            raise SourceError("1.mp4: the card was pulled out")
        return read(source)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoSource, "read", refuse)
        run = detect([card / "1.mp4", card / "below" / "3.mp4"], settings=small)
        assert [result.frame for result in run] == list(range(FRAMES))
    (error,) = run.failed.values()
    assert "pulled out" in str(error)
    texts = [record.getMessage() for record in caplog.records]
    assert sum("the other files go on" in text for text in texts) == 1


def test_a_missing_file_is_an_error_at_once(card: Path, small: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match=r"none\.mp4: no such file"):
        detect([card / "1.mp4", card / "none.mp4"], settings=small)
