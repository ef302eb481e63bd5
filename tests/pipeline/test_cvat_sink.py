from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.sinks.files import cvat
from squeezedrive.pipeline.sinks.files.cvat import CvatSink
from tests.support.limits import largest_file
from tests.support.media import write_video
from tests.support.tables import ROAD, TWO, nothing, result, written

CAR, WALKER = TWO[:1], TWO[1:]


def sink(tmp_path: Path, source: str = "drive.mp4") -> CvatSink:
    return CvatSink(tmp_path / "out.xml", source, ROAD)


def tracks(path: Path) -> list[tuple[int, str, list[tuple[int, bool]]]]:
    """Return for each track its number, its label and (frame, whether the object is there)."""
    return [
        (
            int(track.attrib["id"]),
            track.attrib["label"],
            [(int(box.attrib["frame"]), box.attrib["outside"] == "0") for box in track],
        )
        for track in ElementTree.parse(path).getroot().findall("track")
    ]


def shown(path: Path, frames: int) -> list[set[int]]:
    """Return the objects that CVAT shows in each frame: from a box until one marked outside."""
    objects: list[set[int]] = [set() for _ in range(frames)]
    for number, _, boxes in tracks(path):
        there = dict(boxes)
        state = False
        for frame in range(frames):
            state = there.get(frame, state)
            if state:
                objects[frame].add(number)
    return objects


def test_each_tracked_object_is_one_track(tmp_path: Path) -> None:
    results = [result(0, TWO, [7, 3]), result(1, WALKER, [3]), nothing(2, True), nothing(3, True)]
    path = written(sink(tmp_path), *results, result(4, CAR, [7]))
    assert tracks(path) == [
        (7, "car", [(0, True), (1, False), (4, True)]),
        (3, "pedestrian", [(0, True), (1, True), (2, False)]),
    ]
    root = ElementTree.parse(path).getroot()
    assert root.tag == "annotations"
    assert [child.tag for child in root] == ["version", "meta", "track", "track"]
    assert [name.text for name in root.iterfind("meta/task/labels/label/name")] == ROAD
    assert root.findtext("meta/task/original_size/width") == "64"
    assert root.findtext("meta/task/mode") == "interpolation"
    assert root[2][0].attrib == {
        "frame": "0", "outside": "0", "occluded": "0", "keyframe": "1",
        "xtl": "10.12", "ytl": "20.46", "xbr": "110.79", "ybr": "220.00", "z_order": "0",
    }  # fmt: skip


def test_without_tracking_each_detection_is_a_track(tmp_path: Path) -> None:
    path = written(sink(tmp_path), result(0), result(1, CAR), nothing(2), result(3, WALKER))
    assert tracks(path) == [
        (0, "car", [(0, True), (1, False)]),
        (1, "pedestrian", [(0, True), (1, False)]),
        (2, "car", [(1, True), (2, False)]),
        (3, "pedestrian", [(3, True)]),
    ]


def test_finished_tracks_are_not_kept_in_memory(tmp_path: Path) -> None:
    one = sink(tmp_path)
    for k in range(400):  # a new object in each frame; 5 s are 150 frames
        one.write(result(k, CAR, [k]))
        assert len(one._tracks) <= 152
    one.close()
    assert len(one._tracks) == 0
    assert shown(tmp_path / "out.xml", 400) == [{k} for k in range(400)]
    assert [number for number, _, _ in tracks(tmp_path / "out.xml")] == list(range(400))


def test_a_very_long_track_is_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cvat, "LONGEST", 10)
    path = written(sink(tmp_path), *(result(k, CAR, [7]) for k in range(25)))
    assert [len(boxes) for _, _, boxes in tracks(path)] == [11, 11, 5]
    assert shown(path, 25) == [{7}] * 25


def test_a_change_of_class_begins_a_new_track(tmp_path: Path) -> None:
    path = written(sink(tmp_path), result(0, CAR, [7]), result(1, WALKER, [7]))
    assert tracks(path) == [
        (7, "car", [(0, True), (1, False)]),
        (7, "pedestrian", [(1, True)]),
    ]


@pytest.mark.parametrize("name", ['<a> & "b".mp4', "weg über.mp4", "bell\x07.mp4", "]]>.mp4"])
def test_any_name_makes_valid_xml(tmp_path: Path, name: str) -> None:
    one = CvatSink(tmp_path / "out.xml", name, [name, "b", "c"])
    path = written(one, result(0, CAR, [1]))
    expected = name.replace("\x07", "?")
    assert tracks(path)[0][1] == expected
    assert ElementTree.parse(path).findtext("meta/task/name") == expected


def test_the_tracks_agree_with_the_json_lines(run: Any, tmp_path: Path) -> None:
    clip, out, jsonl = (tmp_path / name for name in ("clip.mp4", "out.xml", "out.jsonl"))
    write_video(clip, 6, size=(320, 192))
    options = "--no-video", "-t", "0.001", "--track", "--jsonl", jsonl
    assert run(clip, *options, "--cvat", out)[0] == 0
    _, *lines = map(json.loads, jsonl.read_text().splitlines())
    assert any(line["detections"] for line in lines)
    assert shown(out, 6) == [{d["id"] for d in line["detections"]} for line in lines]
    boxes = {
        (int(track.attrib["id"]), int(box.attrib["frame"])): [
            float(box.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr")
        ]
        for track in ElementTree.parse(out).getroot().findall("track")
        for box in track
    }
    for line in lines:
        for d in line["detections"]:
            np.testing.assert_allclose(boxes[d["id"], line["frame"]], d["box"])


def test_an_existing_file_stays_until_the_new_one_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "out.xml"
    path.write_text("precious")
    one = sink(tmp_path)
    one.write(result(0, TWO, [1, 2]))
    assert path.read_text() == "precious"
    one.close()
    one.close()
    assert len(tracks(path)) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_created_before_the_first_frame(tmp_path: Path) -> None:
    sink(tmp_path).close()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "out.xml"
    path.write_text("precious")
    one = sink(tmp_path)

    def fill() -> None:
        for k in range(100):
            one.write(result(k))

    with largest_file(2000):
        with pytest.raises(SinkError, match=r"out\.xml: cannot write: File too large"):
            fill()
        one.close()
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]
