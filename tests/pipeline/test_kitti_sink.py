from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.sinks.files.kitti import KittiSink, has_results
from tests.support.limits import largest_file

ROAD = ["car", "cyclist", "pedestrian"]
THREE = Detections(
    np.array(
        [[10.126, 20.5, 110.75, 220.25], [0, 2, 3, 4], [600, 170.004, 640, 359.5]], np.float32
    ),
    np.array([0.875, 0.5, 0.31239], np.float32),
    np.array([0, 2, 1], np.int32),
)


def result(frame_id: int, found: Detections = THREE) -> FrameResult:
    image = np.zeros((48, 64, 3), np.uint8)
    return FrameResult(Frame(0, frame_id, frame_id, Fraction(1, 25), 0.0, image), found)


def read(path) -> list[list[str]]:
    return [line.split(" ") for line in path.read_text().splitlines()]


def test_columns_are_those_of_a_kitti_result(tmp_path):
    KittiSink(tmp_path / "results", ROAD).write(result(42))
    rows = read(tmp_path / "results" / "000042.txt")
    assert [row[0] for row in rows] == ["Car", "Pedestrian", "Cyclist"]
    for row, box, score in zip(rows, THREE.boxes, THREE.scores, strict=True):
        assert len(row) == 16
        numbers = np.array(row[1:], float)
        assert numbers[:3].tolist() == [-1, -1, -10]
        np.testing.assert_allclose(numbers[3:7], box, atol=0.005001)
        assert numbers[7:14].tolist() == [-1, -1, -1, -1000, -1000, -1000, -10]
        assert numbers[14] == pytest.approx(score, abs=0.00005)


def test_frame_without_detections_gets_an_empty_file(tmp_path):
    KittiSink(tmp_path / "results", ROAD).write(result(3, Detections.empty()))
    assert [(p.name, p.stat().st_size) for p in (tmp_path / "results").iterdir()] == [
        ("000003.txt", 0)
    ]


def test_files_take_the_names_of_the_images(tmp_path):
    names = ["a.b", "street"]
    sink = KittiSink(tmp_path, ROAD, stem=names.__getitem__)
    for k in range(2):
        sink.write(result(k))
    sink.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.b.txt", "street.txt"]


@pytest.mark.parametrize(
    ("name", "written"),
    [("truck", "Truck"), ("traffic light", "Traffic_light"), ("DontCare", "DontCare")],
)
def test_type_is_one_word_with_a_capital(tmp_path, name, written):
    one = Detections(np.ones((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    KittiSink(tmp_path, [name]).write(result(0, one))
    (row,) = read(tmp_path / "000000.txt")
    assert row[0] == written
    assert len(row) == 16


def test_nothing_is_created_before_the_first_frame(tmp_path):
    KittiSink(tmp_path / "results", ROAD).close()
    assert not (tmp_path / "results").exists()


def test_a_file_of_an_earlier_run_is_replaced(tmp_path):
    (tmp_path / "000000.txt").write_text("old " * 1000)
    KittiSink(tmp_path, ROAD).write(result(0))
    assert len(read(tmp_path / "000000.txt")) == 3


def test_has_results_finds_only_result_files(tmp_path):
    assert not has_results(tmp_path / "none")
    (tmp_path / "._000001.txt").write_bytes(b"\0\5\x16\7")  # a file that macOS adds
    assert not has_results(tmp_path)
    (tmp_path / "readme.md").write_text("")
    assert not has_results(tmp_path)
    KittiSink(tmp_path, ROAD).write(result(0, Detections.empty()))
    assert has_results(tmp_path)
    assert not has_results(tmp_path / "000000.txt")


def test_missing_parent_is_named(tmp_path):
    folder = tmp_path / "none" / "results"
    with pytest.raises(SinkError, match=rf"results: the folder {folder.parent} does not exist"):
        KittiSink(folder, ROAD).write(result(0))


def test_file_in_place_of_the_folder_is_an_error(tmp_path):
    path = tmp_path / "results"
    path.write_text("precious")
    with pytest.raises(SinkError, match="is a file, expected a folder"):
        KittiSink(path, ROAD).write(result(0))
    assert path.read_text() == "precious"


def test_full_disk_leaves_no_partial_file(tmp_path):
    sink = KittiSink(tmp_path, ROAD)
    sink.write(result(0))
    with (
        largest_file(100),
        pytest.raises(SinkError, match=r"000001\.txt: cannot write: File too large"),
    ):
        sink.write(result(1))
    assert [p.name for p in tmp_path.iterdir()] == ["000000.txt"]


def test_format_is_that_of_the_official_detections(tmp_path, shared):
    """Write official detections again and get equal values, except for the 3D columns."""
    paths = sorted((shared / "data/kitti/official-eval/detections").glob("*.txt"))[:20]
    assert paths
    sink = KittiSink(tmp_path, ROAD)
    for path in paths:
        rows = read(path)
        assert all(len(row) == 16 for row in rows)
        found = Detections(
            np.array([row[4:8] for row in rows], np.float32).reshape(-1, 4),
            np.array([row[15] for row in rows], np.float32),
            np.array([ROAD.index(row[0].lower()) for row in rows], np.int32),
        )
        sink.write(result(int(path.stem), found))
        written = read(tmp_path / path.name)
        assert [row[0].lower() for row in written] == [row[0].lower() for row in rows]
        np.testing.assert_allclose(
            np.array([row[4:8] for row in written], float),
            np.array([row[4:8] for row in rows], float),
            atol=1e-6,
        )
        assert [float(row[15]) for row in written] == [float(row[15]) for row in rows]
