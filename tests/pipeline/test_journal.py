"""The journal: a file beside the outputs that records which of them are finished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from squeezedrive.pipeline.app.journal import JOURNAL, Journal, OutputRecord, is_intact, measure
from squeezedrive.pipeline.core.errors import SinkError


def test_the_journal_knows_what_is_begun_and_finished(tmp_path: Path) -> None:
    video, lines = tmp_path / "a.mp4", tmp_path / "lines" / "a.jsonl"
    lines.parent.mkdir()
    journal = Journal()
    assert journal.find(video) is None
    journal.begin("key", [video, lines])
    video.write_bytes(b"12345")
    lines.write_bytes(b"1234567")
    for known in (journal, Journal()):
        assert known.find(video) == known.find(lines) == OutputRecord("key", None)
    journal.finish("key", [video, lines])
    for known in (journal, Journal()):
        assert known.find(video) == OutputRecord("key", 5)
        assert known.find(lines) == OutputRecord("key", 7)
        assert known.find(tmp_path / "b.mp4") is None
    journal.begin("other", [video])
    assert Journal().find(video) == OutputRecord("other", None)
    assert Journal().find(lines) == OutputRecord("key", 7)


def test_the_journal_can_be_moved_with_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"12345")
    Journal().finish("key", [folder / "a.mp4"])
    moved = folder.rename(tmp_path / "moved")
    assert Journal().find(moved / "a.mp4") == OutputRecord("key", 5)


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_truncated_line_loses_only_itself(tmp_path: Path, cut: int) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"12345")
        Journal().finish("key", [tmp_path / name])
    path = tmp_path / JOURNAL
    path.write_bytes(path.read_bytes()[:-cut])
    assert Journal().find(tmp_path / "a.mp4") == OutputRecord("key", 5)
    # Without its newline, a line is still valid.
    assert Journal().find(tmp_path / "b.mp4") == (OutputRecord("key", 5) if cut == 1 else None)
    Journal().begin("next", [tmp_path / "c.mp4"])
    assert Journal().find(tmp_path / "a.mp4") == OutputRecord("key", 5)
    assert Journal().find(tmp_path / "c.mp4") == OutputRecord("next", None)


def test_unknown_lines_are_kept(tmp_path: Path) -> None:
    text = '[]\n7\n{"state": "finished"}\n{"state": "finished", "outputs": []}\nno JSON\n\xff\n'
    (tmp_path / JOURNAL).write_bytes(text.encode("latin-1"))
    journal = Journal()
    assert journal.find(tmp_path / "a.mp4") is None
    journal.begin("key", [tmp_path / "a.mp4"])
    assert (tmp_path / JOURNAL).read_bytes().startswith(text.encode("latin-1"))
    assert Journal().find(tmp_path / "a.mp4") == OutputRecord("key", None)


def test_sizes_of_files_folders_and_series_are_compared(tmp_path: Path) -> None:
    file, folder, series = tmp_path / "a.jsonl", tmp_path / "kitti", tmp_path / "ride.mp4"
    assert measure(series) == {}
    assert is_intact(series, {})
    file.write_bytes(b"12345")
    folder.mkdir()
    for name in ("000000.txt", "000001.txt", "._000000.txt"):
        (folder / name).touch()
    for number in (1, 2):
        (tmp_path / f"ride.00000{number}.20261125T101112Z.mp4").write_bytes(b"123")
    (tmp_path / "other.000001.20261125T101112Z.mp4").touch()
    sizes = {path: measure(path) for path in (file, folder, series)}
    assert sizes == {
        file: 5,
        folder: 2,
        series: {f"ride.00000{number}.20261125T101112Z.mp4": 3 for number in (1, 2)},
    }
    journal = Journal()
    journal.finish("key", sizes)
    for path, size in sizes.items():
        assert Journal().find(path) == OutputRecord("key", size)
        assert is_intact(path, size)
    (tmp_path / "ride.000003.20261125T101112Z.mp4").touch()  # of a later run
    assert is_intact(series, sizes[series])
    file.write_bytes(b"1234")
    (folder / "000000.txt").unlink()
    (tmp_path / "ride.000001.20261125T101112Z.mp4").unlink()
    for path, size in sizes.items():
        assert not is_intact(path, size)


def test_file_names_may_have_any_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a\udcff.mp4"
    Journal().begin("key", [path])
    assert Journal().find(path) == OutputRecord("key", None)
    (line,) = (tmp_path / JOURNAL).read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["outputs"] == {"a\\xff.mp4": None}


def test_an_unusable_journal_is_an_error(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(SinkError, match=r"\.squeezedrive\.jsonl: cannot be read"):
        Journal().find(tmp_path / "a.mp4")
    with pytest.raises(SinkError, match=r"\.squeezedrive\.jsonl: cannot write"):
        Journal().begin("key", [tmp_path / "a.mp4"])
    with pytest.raises(SinkError, match="cannot write"):
        Journal().begin("key", [tmp_path / "none" / "a.mp4"])
