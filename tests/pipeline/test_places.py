"""Names of the outputs of many files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from squeezedrive.pipeline.app.outputs import Outputs
from squeezedrive.pipeline.app.places import place_outputs, summary_place, total_summary
from squeezedrive.pipeline.core.sink import STDOUT
from squeezedrive.pipeline.sources.collect import SourceFile

FILES = [
    SourceFile("card/DCIM/1.MP4", Path("card/DCIM/1"), Path("DCIM/1")),
    SourceFile("card/2.ts", Path("card/2.ts"), Path("2.ts")),
]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def named(*files: SourceFile, folders: tuple[str, ...] = (), **sinks: str) -> list[dict[str, str]]:
    asked = {option: Path(path) for option, path in sinks.items()}
    places = place_outputs(Outputs(asked, folders=frozenset(folders)), files)
    return [{option: str(path) for option, path in paths.items()} for paths in places]


def test_videos_without_a_name_go_beside_their_sources() -> None:
    assert named(*FILES) == [
        {"output": "card/DCIM/1.detected.mp4"}, {"output": "card/2.ts.detected.mp4"},
    ]  # fmt: skip


def test_a_folder_mirrors_the_card() -> None:
    options = ("output", "jsonl", "csv", "parquet", "coco", "cvat", "mot", "kitti")
    paths, others = named(*FILES, **dict.fromkeys(options, "out"))
    assert paths == {
        "output": "out/DCIM/1.detected.mp4", "jsonl": "out/DCIM/1.jsonl",
        "csv": "out/DCIM/1.csv", "parquet": "out/DCIM/1.parquet",
        "coco": "out/DCIM/1.coco.json", "cvat": "out/DCIM/1.cvat.xml",
        "mot": "out/DCIM/1.mot.txt", "kitti": "out/DCIM/1",
    }  # fmt: skip
    assert others["output"] == "out/2.ts.detected.mp4"
    assert len(set(paths.values()) | set(others.values())) == 16


@pytest.mark.parametrize(
    ("path", "options", "expected"),
    [
        ("out", {}, "out/2.ts.jsonl"),
        ("there.d", {}, "there.d/2.ts.jsonl"),
        ("new.d", {"folders": ("jsonl",)}, "new.d/2.ts.jsonl"),
        ("out.jsonl", {}, "out.jsonl"),
        ("file", {}, "file"),
    ],
)
def test_which_output_names_count_as_folders(path: str, options: Any, expected: str) -> None:
    Path("there.d").mkdir()
    Path("file").touch()
    (paths,) = named(FILES[1], jsonl=path, **options)
    assert paths["jsonl"] == expected


def test_outputs_of_several_sources_are_numbered() -> None:
    assert [paths["jsonl"] for paths in named(*FILES, jsonl="out.jsonl")] == [
        "out.0.jsonl", "out.1.jsonl",
    ]  # fmt: skip
    assert [paths["jsonl"] for paths in named(*FILES, jsonl="-")] == [str(STDOUT)] * 2


def test_summaries_are_written_for_each_file_and_for_all() -> None:
    one = Outputs(summary=Path("figures.json"))
    assert (summary_place(one, FILES[0]), total_summary(one)) == (None, Path("figures.json"))
    each = Outputs(summary=Path("out"))
    assert summary_place(each, FILES[0]) == Path("out/DCIM/1.summary.json")
    assert total_summary(each) == Path("out/summary.json")
    assert (summary_place(Outputs(), FILES[0]), total_summary(Outputs())) == (None, None)
