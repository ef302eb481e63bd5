from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.sinks.files.mot import MotSink
from tests.support.limits import largest_file

ROAD = ["car", "cyclist", "pedestrian"]
TWO = Detections(
    np.array([[10.123, 20.456, 110.789, 220.0], [0, 2, 3, 4]], np.float32),
    np.array([0.87, 0.31239], np.float32),
    np.array([0, 2], np.int32),
)
NUMBERS = np.array([7, 3], np.int32)


def result(frame_id=0, found=TWO, ids=NUMBERS):
    image = np.zeros((48, 64, 3), np.uint8)
    return FrameResult(Frame(0, frame_id, frame_id, Fraction(1, 30), 0.0, image), found, ids)


def nothing(frame_id):
    return result(frame_id, Detections.empty(), np.empty(0, np.int32))


def test_lines_count_frames_and_pixels_from_one(tmp_path):
    sink = MotSink(tmp_path / "out.txt", ROAD)
    sink.write(result(0))
    sink.write(nothing(1))
    sink.write(result(41, TWO[:1], NUMBERS[:1]))
    sink.close()
    assert (tmp_path / "out.txt").read_text().splitlines() == [
        "1,7,11.12,21.46,100.67,199.54,0.8700,3,-1",
        "1,3,1.00,3.00,3.00,2.00,0.3124,1,-1",
        "42,7,11.12,21.46,100.67,199.54,0.8700,3,-1",
    ]


def test_a_run_without_objects_writes_an_empty_file(tmp_path):
    sink = MotSink(tmp_path / "out.txt", ROAD)
    sink.write(nothing(0))
    sink.close()
    assert (tmp_path / "out.txt").read_text() == ""


def test_classes_have_the_numbers_of_the_benchmark_and_others_their_own(tmp_path):
    names = ["tram", "cyclist", "pedestrian", "dog", "car"]
    n = len(names)
    found = Detections(
        np.ones((n, 4), np.float32), np.ones(n, np.float32), np.arange(n, dtype="i4")
    )
    sink = MotSink(tmp_path / "out.txt", names)
    sink.write(result(0, found, np.arange(1, n + 1, dtype=np.int32)))
    sink.close()
    rows = [line.split(",") for line in (tmp_path / "out.txt").read_text().splitlines()]
    assert [row[7] for row in rows] == ["14", "2", "1", "15", "3"]


def test_lines_can_be_read_during_the_run(tmp_path):
    sink = MotSink(tmp_path / "out.txt", ROAD)
    for k in range(3):
        sink.write(result(k))
        assert (tmp_path / "out.txt").read_text().splitlines()[-1].startswith(f"{k + 1},3,")
    sink.close()


def test_nothing_is_created_before_the_first_frame(tmp_path):
    MotSink(tmp_path / "out.txt", ROAD).close()
    assert not list(tmp_path.iterdir())


def test_detections_without_ids_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected detections with ids"):
        MotSink(tmp_path / "out.txt", ROAD).write(result(0, TWO, None))


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(SinkError, match="does not exist"):
        MotSink(tmp_path / "none" / "out.txt", ROAD).write(result())


def test_full_disk_leaves_whole_frames(tmp_path):
    path = tmp_path / "out.txt"
    sink = MotSink(path, ROAD)

    def fill() -> None:
        for k in range(100):
            sink.write(result(k))

    with largest_file(1000), pytest.raises(SinkError, match="File too large"):
        fill()
    sink.close()
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert {len(row) for row in rows} == {9}
    assert len(rows) % 2 == 0
    assert 500 < path.stat().st_size <= 1000
