"""Files that a folder, a pattern or several names select, and the names of their outputs."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.sources.collect import collect, is_recorded, split_tracks


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder inside the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "card"
    folder.mkdir()
    return folder


def fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"anything: names decide")


def specs(*named: str) -> list[str]:
    return [file.spec for file in collect(named).files]


def places(*named: str) -> list[str]:
    return [str(file.place) for file in collect(named).files]


def test_a_card_gives_the_videos_of_all_its_folders(card: Path) -> None:
    fill(
        card,
        "DCIM/100MEDIA/F2.MP4", "DCIM/100MEDIA/F10.MP4", "DCIM/101MEDIA/F1.mov", "EVENT/e.TS",
        "DCIM/100MEDIA/._F2.MP4", ".Trashes/gone.mp4", "$RECYCLE.BIN/gone.mp4",
        "DCIM/100MEDIA/F2.THM", "DCIM/100MEDIA/F2.LRV", "GPS/track.gpx", "notes.txt",
    )  # fmt: skip
    found = collect(["card"])
    assert [file.spec for file in found.files] == [
        "card/DCIM/100MEDIA/F2.MP4", "card/DCIM/100MEDIA/F10.MP4",
        "card/DCIM/101MEDIA/F1.mov", "card/EVENT/e.TS",
    ]  # fmt: skip
    assert [str(file.place) for file in found.files] == [
        "DCIM/100MEDIA/F2", "DCIM/100MEDIA/F10", "DCIM/101MEDIA/F1", "EVENT/e",
    ]  # fmt: skip
    assert str(found.files[0].beside) == "card/DCIM/100MEDIA/F2"
    assert found.notes == []


def test_a_folder_without_videos_gives_one_picture_sequence(card: Path) -> None:
    fill(card, "a.jpg", "b.png", "below/c.jpg")
    (file,) = collect(["card"]).files
    assert (file.spec, str(file.beside), str(file.place)) == ("card", "card", "card")
    (file,) = collect(["card/*.jpg"]).files
    assert (file.spec, str(file.beside), str(file.place)) == ("card/*.jpg", "card", "card")


def test_a_mixed_folder_gives_its_videos_and_a_message(card: Path) -> None:
    fill(card, "1.jpg", "PHOTO/2.jpg", "MOVIE/1.mp4")
    found = collect(["card"])
    assert [file.spec for file in found.files] == ["card/MOVIE/1.mp4"]
    (line,) = found.notes
    assert "card: pictures left out: 2;" in line


def test_a_pattern_gives_videos_and_folders_of_videos(card: Path) -> None:
    fill(card, "a/1.mp4", "a/2.ts", "b/1.mp4", "c/1.jpg", ".d/1.mp4")
    assert specs("card/*/1.mp4") == ["card/a/1.mp4", "card/b/1.mp4"]
    assert places("card/*/1.mp4") == ["a/1", "b/1"]
    assert specs("card/*") == ["card/a/1.mp4", "card/a/2.ts", "card/b/1.mp4"]
    assert specs("card/**/*.ts") == ["card/a/2.ts"]
    assert specs("card/**") == specs("card")  # each file once


def test_an_existing_file_whose_name_looks_like_a_pattern_is_read(card: Path) -> None:
    fill(card, "drive[1].mp4")
    assert specs("card/drive[1].mp4") == ["card/drive[1].mp4"]


def test_outputs_of_earlier_runs_are_not_read(card: Path) -> None:
    fill(
        card,
        "1.mp4", "1.detected.mp4", "2.mp4", "2.track0.detected.mp4", "3.mp4", "3.ts",
        "3.ts.detected.mp4", "1.detected.000001.20261125T101112Z.mp4", "out/below/1.detected.mp4",
    )  # fmt: skip
    wanted = ["card/1.mp4", "card/2.mp4", "card/3.mp4", "card/3.ts"]
    found = collect(["card"])
    assert [file.spec for file in found.files] == wanted
    assert found.notes == ["card: videos left out, as this program wrote them: 5"]
    # The names that a shell gives for card/*.
    named = sorted(str(path.relative_to(card.parent)) for path in card.glob("*.*"))
    assert specs(*named) == wanted
    # An output that is named directly is read.
    assert specs("card/1.detected.mp4") == ["card/1.detected.mp4"]
    with pytest.raises(SourceError, match="holds nothing but what this program wrote"):
        collect(["card/out"])


def test_several_names_keep_their_order_and_count_once(card: Path) -> None:
    fill(card, "b.mp4", "a.mp4", "c/x.mp4", "p.jpg")
    assert specs("card/b.mp4", "card/a.mp4", "./card/b.mp4", "card/p.jpg", "card/c") == [
        "card/b.mp4", "card/a.mp4", "card/p.jpg", "card/c/x.mp4",
    ]  # fmt: skip


def test_output_names_get_as_many_folders_as_needed_to_differ(card: Path) -> None:
    fill(card, "a/1.mp4", "a/1.ts", "a/2.mp4", "b/1.mp4", "b/3.mp4")
    assert places("card/a/2.mp4", "card/b/3.mp4") == ["2", "3"]
    assert places("card/a/1.mp4", "card/a/1.ts") == ["1.mp4", "1.ts"]
    assert places("card/a/2.mp4", "card/a/1.mp4", "card/b/1.mp4") == ["2", "a/1.mp4", "b/1.mp4"]
    assert places("card/a", "card/b") == ["a/1.mp4", "a/1.ts", "a/2", "b/1", "b/3"]
    assert places("card/b/") == ["1", "3"]


def test_files_with_the_same_stem_keep_their_endings(card: Path) -> None:
    fill(card, "a/1.mp4", "a/1.ts", "b/1.mp4")
    beside = [str(file.beside) for file in collect(["card"]).files]
    assert beside == ["card/a/1.mp4", "card/a/1.ts", "card/b/1"]


def test_the_current_folder_can_be_collected(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(card, "1.mp4", "2/2.mp4")
    monkeypatch.chdir(card)
    assert (specs("."), places(".")) == (["1.mp4", "2/2.mp4"], ["1", "2/2"])
    assert places(".", "../card/2") == ["card/1", "card/2/2"]


def test_names_that_match_nothing_are_errors(card: Path) -> None:
    fill(card, "notes.txt")
    for named, message in (
        (["card"], "card: folder holds no images.*nor are there videos"),
        (["card/*.avi"], "pattern matches no images.*nor are there videos"),
        (["card/none.mp4"], "card/none.mp4: no such file or folder$"),
        (["card/none.mp4", "card/x.mp4", "card"], "none.mp4: no such file.*and 1 more of 3"),
        ([""], "empty name"),
    ):
        with pytest.raises(SourceError, match=message):
            collect(named)


def test_an_unreadable_folder_is_kept_in_the_list(
    card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(card, "a/1.mp4", "b/1.mp4")
    scandir = os.scandir

    def damaged(path: str) -> Any:
        if str(path) == "card/a":
            raise OSError(errno.EIO, "Input/output error", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", damaged)
    assert specs("card") == ["card/a", "card/b/1.mp4"]


def test_links_to_folders_are_not_followed(card: Path) -> None:
    fill(card, "a/1.mp4")
    (card / "a" / "loop").symlink_to(card)
    (card / "2.mp4").symlink_to(card / "a" / "1.mp4")
    assert specs("card") == ["card/2.mp4", "card/a/1.mp4"]


def test_each_video_track_becomes_a_source(card: Path) -> None:
    fill(card, "a/1.mp4", "2.mp4", "3.mp4")
    counts = {"card/a/1.mp4": 2, "card/2.mp4": 1, "card/3.mp4": 0}
    files = split_tracks(collect(["card"]).files, counts.__getitem__)
    assert [(str(file.place), file.track) for file in files] == [
        ("2", None), ("3", None), ("a/1.track0", 0), ("a/1.track1", 1),
    ]  # fmt: skip
    assert str(files[3].beside) == "card/a/1.track1"


def test_which_names_count_as_recorded(card: Path) -> None:
    fill(card, "7.mp4")
    os.mkfifo(card / "fifo")
    for spec in ("card", "card/7.mp4", "card/*.mp4", "none"):
        assert is_recorded(spec)
    for spec in ("7", "/dev/video0", "rtsp://camera/7.mp4", "-", "demo:loop", "card/fifo"):
        assert not is_recorded(spec)
