from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.sinks.files.coco import CocoSink
from tests.support.limits import largest_file
from tests.support.media import write_video
from tests.support.tables import ROAD, TWO, nothing, result, written


def test_frames_are_images_and_detections_annotations(tmp_path: Path) -> None:
    sink = CocoSink(tmp_path / "out.json", 'drive "1".mp4', ROAD)
    path = written(sink, result(0), nothing(1), result(3, TWO[1:], [7]))
    assert json.loads(path.read_text()) == {
        "info": {"description": 'What SqueezeDrive found in drive "1".mp4'},
        "categories": [
            {"id": 1, "name": "car"},
            {"id": 2, "name": "cyclist"},
            {"id": 3, "name": "pedestrian"},
        ],
        "annotations": [
            {
                "id": 1, "image_id": 0, "category_id": 1, "bbox": [10.12, 20.46, 100.67, 199.54],
                "area": 20087.69, "iscrowd": 0, "score": 0.87,
            },
            {
                "id": 2, "image_id": 0, "category_id": 3, "bbox": [1.0, 2.0, 2.0, 2.0],
                "area": 4.0, "iscrowd": 0, "score": 0.3124,
            },
            {
                "id": 3, "image_id": 3, "category_id": 3, "bbox": [1.0, 2.0, 2.0, 2.0],
                "area": 4.0, "iscrowd": 0, "score": 0.3124, "track_id": 7,
            },
        ],
        "images": [
            {"id": 0, "file_name": "000000.jpg", "width": 64, "height": 48, "pts": 0.0},
            {"id": 1, "file_name": "000001.jpg", "width": 64, "height": 48, "pts": 1001 / 30000},
            {"id": 3, "file_name": "000003.jpg", "width": 64, "height": 48, "pts": 0.1001},
        ],
    }  # fmt: skip


def test_frames_without_detections_are_images(tmp_path: Path) -> None:
    path = written(CocoSink(tmp_path / "out.json", "drive.mp4", ROAD), nothing(0), nothing(1))
    content = json.loads(path.read_text())
    assert content["annotations"] == []
    assert [image["id"] for image in content["images"]] == [0, 1]


def test_the_output_can_be_loaded_as_a_data_set(tmp_path: Path) -> None:
    pictures = tmp_path / "images" / "val"
    pictures.mkdir(parents=True)
    (tmp_path / "annotations").mkdir()
    for k in range(3):
        cv2.imwrite(str(pictures / f"{k:06d}.jpg"), np.zeros((48, 64, 3), np.uint8))
    path = tmp_path / "annotations" / "instances_val.json"
    written(CocoSink(path, "drive.mp4", ROAD), result(0, TWO[1:]), nothing(1), result(2, TWO[1:]))
    dataset = load_dataset(tmp_path, "val", ROAD)
    assert (dataset.layout, len(dataset)) == ("coco", 3)
    boxes = [item.objects.boxes.tolist() for item in dataset.items]
    assert boxes == [[[1, 2, 3, 4]], [], [[1, 2, 3, 4]]]


def test_pictures_keep_their_names(run: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b.png", "a.jpg"):
        cv2.imwrite(str(tmp_path / "in" / name), np.zeros((96, 320, 3), np.uint8))
    out = tmp_path / "out.json"
    assert run(tmp_path / "in", "--no-video", "--coco", out)[0] == 0
    images = json.loads(out.read_text())["images"]
    assert [image["file_name"] for image in images] == ["a.jpg", "b.png"]


def test_an_existing_file_stays_until_the_new_one_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("precious")
    sink = CocoSink(path, "drive.mp4", ROAD)
    sink.write(result(0))
    assert path.read_text() == "precious"
    sink.close()
    assert len(json.loads(path.read_text())["annotations"]) == 2
    sink.close()
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_created_before_the_first_frame(tmp_path: Path) -> None:
    written(CocoSink(tmp_path / "out.json", "drive.mp4", ROAD))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frames", [100, 6])  # full during writing; full at close
def test_a_full_disk_leaves_the_existing_file(tmp_path: Path, frames: int) -> None:
    path = tmp_path / "out.json"
    path.write_text("precious")
    sink = CocoSink(path, "drive.mp4", ROAD)

    def fill() -> None:
        for k in range(frames):
            sink.write(result(k))
        sink.close()

    with largest_file(1800):
        with pytest.raises(SinkError, match=r"out\.json: cannot write: File too large"):
            fill()
        sink.close()
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"the folder .*none does not exist"):
        CocoSink(tmp_path / "none" / "out.json", "drive.mp4", ROAD).write(result())


def test_a_pipe_is_refused(refused: Any, tmp_path: Path) -> None:
    clip, pipe = tmp_path / "clip.mp4", tmp_path / "pipe"
    write_video(clip, 2, size=(320, 192))
    os.mkfifo(pipe)
    assert "expected a regular file" in refused(clip, "--no-video", "--coco", pipe, "-y")
