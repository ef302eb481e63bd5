import argparse
import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.select import open_backend
from squeezedrive.engines.cli import evaluate as verb
from squeezedrive.engines.datasets.images import read_image
from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.engines.errors import DatasetError, UserError
from squeezedrive.engines.evaluation import run
from squeezedrive.engines.evaluation.evaluate import evaluate as compare
from squeezedrive.engines.evaluation.report import as_comparison
from squeezedrive.engines.evaluation.results import OTHER_CLASS, ImageDetections, read_results
from squeezedrive.engines.model.weights import DEFAULT, load_weights
from squeezedrive.kernels.detections import Detections
from tests.support.labelled import kitti_line, write_kitti, write_picture

ROOT = Path(__file__).parents[2]
SMALL = ("--size", "128x64", "--fit", "stretch", "--backend", "cpu")


def parse(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    verb.add_options(parser)
    return parser.parse_args([*map(str, arguments)])


def evaluate(*arguments: object) -> None:
    verb.run(parse(*arguments))


def result_line(name: str, corners: tuple[float, ...], score: float) -> str:
    return kitti_line(name, corners)[:-1] + f" {score}\n"  # type: ignore[arg-type]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    car, van = (10, 5, 60, 50), (62, 0, 100, 50)
    return write_kitti(
        tmp_path / "data",
        {"a": kitti_line("Car", car) + kitti_line("Van", van), "b": kitti_line("Cyclist", car)},
    )


@pytest.fixture
def detections(tmp_path: Path) -> Path:
    folder = tmp_path / "found"
    folder.mkdir()
    car, van = (10, 5, 60, 50), (62, 0, 100, 50)
    (folder / "a.txt").write_text(
        result_line("car", car, 0.9) + result_line("Car", van, 0.8) + result_line("Bus", van, 0.7)
    )
    (folder / "b.txt").write_text(result_line("Pedestrian", car, 0.6))
    return folder


def test_evaluates_result_files(
    data: Path, detections: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    evaluate("--data", data, "--detections", detections, "--json", output)
    text = capsys.readouterr().out
    for part in (
        "2 pictures",
        "KITTI AP in %, 11 recall points, the kit of the SqueezeDet paper",
        "KITTI AP in %, 40 recall points",
        "COCO AP in %, 101 recall points",
        "score of 0.4 or more",
        "Not labelled in this split and left out of all means: pedestrian.",
        "mean of 6: 4.55",  # half of 1/11
    ):
        assert part in text
    figures = json.loads(output.read_text())
    assert figures["source"] == {"detections": str(detections)}
    assert figures["classes"] == ["car", "pedestrian", "cyclist"]
    kitti = figures["kitti"]
    assert kitti["classes"]["car"]["AP11"] == [pytest.approx(1 / 11, abs=1e-6)] * 3
    assert kitti["classes"]["pedestrian"]["AP11"] == [None] * 3
    assert kitti["mAP11"] == pytest.approx(1 / 22, abs=1e-6)
    assert figures["coco"]["car"]["AP50-95"] == 1
    assert figures["mistakes"]["boxes"]["car"] == {
        "correct": 1, "localisation": 0, "confusion": 0, "duplicate": 0, "background": 0
    }  # fmt: skip
    assert figures["mistakes"]["objects"]["cyclist"]["missed"] == 1  # no pedestrian is labelled


def test_obeys_the_options(
    data: Path, detections: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    evaluate(
        "--data", data, "--detections", detections, "--json", output, "--classes", "Cyclist,car",
        "--iou", "car=0.55", "--kit", "current", "--score", "0.85",
    )  # fmt: skip
    figures = json.loads(output.read_text())
    assert figures["classes"] == ["Cyclist", "car"]
    assert figures["min_iou"] == [0.5, 0.55]
    assert figures["kitti"]["kit"] == "current"
    assert figures["mistakes"]["score"] == 0.85
    assert "current kit" in capsys.readouterr().out


def test_evaluates_a_network_on_another_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "yolo"
    write_picture(data / "images" / "a.jpg", (160, 80))
    (data / "data.yaml").write_text("names: [bus, car]\nval: images\n")
    (data / "labels").mkdir()
    (data / "labels" / "a.txt").write_text("1 0.5 0.5 0.5 0.5")
    output = tmp_path / "figures.json"
    evaluate("--data", data, "--json", output, "--precision", "fp32", "--top-n", 9, *SMALL)
    text = capsys.readouterr().out
    assert text.startswith("squeezedrive-v3, cpu fp32, 128x64, fit stretch, top 9; val of ")
    assert "KITTI AP in %" not in text
    figures = json.loads(output.read_text())
    assert figures["source"]["threshold"] == 0.005
    assert figures["source"]["top_n"] == 9
    assert figures["layout"] == "yolo"
    assert figures["min_iou"] == [0.5, 0.5, 0.5]
    assert 0 <= figures["coco"]["car"]["AP50"] <= 1
    assert "kitti" not in figures


def test_compares_number_formats_in_one_command(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    precisions = ("fp32", "fp16", "int8", "bf16")
    evaluate("--data", data, "--json", output, "--precision", ",".join(precisions), *SMALL)
    titles, table, *others = capsys.readouterr().out.split("\n\n")
    for line, name in zip(titles.splitlines(), precisions, strict=True):
        assert line.startswith(f"squeezedrive-v3, cpu {name}, 128x64, fit stretch, top 256; val of")
    rows = [line.split() for line in table.splitlines()]
    assert rows[1] == list(precisions)
    assert [row[:2] for row in rows[2:5]] == [["car", "easy"], ["car", "moderate"], ["car", "hard"]]
    assert rows[5] == ["pedestrian", "easy", *"----"]
    figures = json.loads(output.read_text())
    assert [part["source"]["precision"] for part in figures] == list(precisions)
    cars = [line.split()[:3] for line in others[1].splitlines()[1:5]]
    assert cars == [["data", "car", name] for name in precisions]
    means = [100 * part["kitti"]["mAP11"] for part in figures]
    assert rows[11] == ["mean", *(f"{mean:.2f}" for mean in means)]
    with pytest.raises(
        UserError, match="--plots: expected one number format, got --precision fp32"
    ):
        evaluate("--data", data, "--plots", tmp_path, "--precision", "fp32,int8")
    with pytest.raises(UserError, match="bf16: not for the back end torch, only for cpu"):
        evaluate("--data", data, "--precision", "bf16", "--backend", "torch")


def test_compares_formats_on_a_layout_without_difficulties(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg", (160, 80))
    (tmp_path / "data.yaml").write_text("names: [a, b]\nval: .\n")
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.5 0.5")
    dataset = load_dataset(tmp_path, "val")
    nothing = ImageDetections(np.empty((0, 4)), np.empty(0), np.empty(0, np.intp))
    right = ImageDetections(np.array([[40.0, 20, 120, 60]]), np.array([0.9]), np.array([1]))
    text = as_comparison(["x", "y"], [compare(dataset, [nothing]), compare(dataset, [right])])
    assert [line.split() for line in text.splitlines()[2:]] == [
        ["AP50", "a", "-", "-"],
        ["AP50", "b", "0.00", "100.00"],
        ["AP50", "mean", "0.00", "100.00"],
        ["AP50-95", "a", "-", "-"],
        ["AP50-95", "b", "0.00", "100.00"],
        ["AP50-95", "mean", "0.00", "100.00"],
    ]


def test_writes_plots_and_replaces_them_only_with_overwrite(
    data: Path, detections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    from squeezedrive.engines.evaluation import plots

    folder = tmp_path / "plots"
    options = ("--data", data, "--detections", detections, "--plots", folder)
    evaluate(*options)
    sizes = {path.name: cv2.imread(str(path)).shape for path in folder.iterdir()}
    assert set(sizes) == {"precision-recall.png", "confusion.png"}
    assert all(300 < height < width + 200 < 2000 for height, width, _ in sizes.values())
    picture = cv2.imread(str(folder / "precision-recall.png"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    with pytest.raises(UserError, match="exists already"):
        evaluate(*options)
    again: list[Path] = []
    monkeypatch.setattr(plots, "write_plots", lambda _, place: again.append(place) or [])
    evaluate(*options, "-y")
    assert again == [folder]


def test_writes_plots_for_a_layout_without_difficulties(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from squeezedrive.engines.evaluation.plots import write_plots

    write_picture(tmp_path / "images" / "a.jpg", (160, 80))
    (tmp_path / "data.yaml").write_text("names: [a, b, c, d]\nval: images\n")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("1 0.5 0.5 0.5 0.5")
    dataset = load_dataset(tmp_path, "val")
    nothing = ImageDetections(np.empty((0, 4)), np.empty(0), np.empty(0, np.intp))
    paths = write_plots(compare(dataset, [nothing]), tmp_path)
    assert [path.name for path in paths] == ["precision-recall.png", "confusion.png"]


def test_without_matplotlib_prints_figures_and_skips_plots(
    data: Path,
    detections: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    evaluate("--data", data, "--detections", detections, "--plots", tmp_path / "plots")
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "pip install -e '.[train]'" in captured.err
    assert "KITTI AP" in captured.out
    assert not (tmp_path / "plots").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "test"], "no such split; there are val"),
        (["--classes", "car,bus"], "--classes: unknown class 'bus', expected car, pedestrian"),
        (["--iou", "bus=0.5"], "--iou: unknown class 'bus'"),
        (["--json", "none/figures.json"], "the folder none does not exist"),
        (["--json", "taken"], "exists already; --overwrite"),
        (["--plots", "taken"], "is a file"),
        (["--weights", "none.npz"], "no such profile"),
        (["--detections", "none"], "no such folder"),
    ],
)
def test_reports_errors_before_the_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    monkeypatch.setattr(run, "find_all", lambda *_: pytest.fail("ran"))
    with pytest.raises(UserError, match=message) as caught:
        evaluate("--data", data, *options)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize(
    "options",
    [
        ["--iou", "car"],
        ["--iou", "car=7"],
        ["--score", "x"],
        ["--size", "wide"],
        ["--top-n", "0"],
        ["--precision", "fp8"],
        ["--precision", "fp32,fp32"],
        ["--fit", "squash"],
        ["--backend", "cpu", "--detections", "here"],
    ],
)
def test_rejects_options_that_make_no_sense(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--data", "here", *options)
    assert caught.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_rejects_missing_and_damaged_result_files(data: Path, detections: Path) -> None:
    dataset = load_dataset(data, "val", ["car", "cyclist"])
    first, second = read_results(detections, dataset)
    assert first.classes.tolist() == [0, 0, OTHER_CLASS]
    assert first.scores.tolist() == [0.9, 0.8, 0.7]
    assert first.boxes[0].tolist() == [10, 5, 60, 50]
    assert second.classes.tolist() == [OTHER_CLASS]
    (detections / "b.txt").write_text(kitti_line("Car", (1, 2, 3, 4)))
    with pytest.raises(DatasetError, match="15 numbers a line"):
        read_results(detections, dataset)
    (detections / "b.txt").write_text("")
    assert len(read_results(detections, dataset)[1]) == 0
    (detections / "b.txt").unlink()
    with pytest.raises(DatasetError, match=r"1 of 2 result files are missing, the first is b\.txt"):
        read_results(detections, dataset)


def test_rejects_one_result_file_for_two_pictures(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_picture(tmp_path / "images" / folder / "x.jpg")
    (tmp_path / "labels" / "a").mkdir(parents=True)
    (tmp_path / "labels" / "a" / "x.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "data.yaml").write_text("names: [car]\nval: images\n")
    dataset = load_dataset(tmp_path, "val")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(DatasetError, match=r"x\.txt is for both .*/a/x\.jpg and .*/b/x\.jpg"):
        read_results(tmp_path, dataset)


def test_maps_classes_by_name(data: Path) -> None:
    dataset = load_dataset(data, "val", ["Cyclist", "CAR"])
    boxes = np.array([[1, 2, 3, 4]] * 3, np.float32)
    detections = Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 2], np.int32))  # fmt: skip  # noqa: E501
    got = ImageDetections.from_detections(detections, ["car", "pedestrian", "cyclist"], dataset)
    assert got.classes.tolist() == [1, OTHER_CLASS, 0]
    assert got.boxes.dtype == got.scores.dtype == np.float64
    nothing = ImageDetections.from_detections(Detections.empty(), ["car"], dataset)
    assert nothing.boxes.shape == (0, 4)


def test_runs_every_picture_through_the_back_end(data: Path) -> None:
    dataset = load_dataset(data, "val", ["car", "pedestrian", "cyclist"])
    names = ("car", "pedestrian", "cyclist")
    weights = load_weights(DEFAULT)
    backend = open_backend("cpu", EngineSettings(weights, 128, 64, run.DETECT, fit="stretch"))
    done: list[int] = []
    results = run.find_all(backend, names, dataset, done.append)
    assert done == [1, 2]
    slot = backend.new_slot()
    for item, got in zip(dataset.items, results, strict=True):
        slot.preprocess([read_image(item.image)])
        slot.infer()
        (expected,) = slot.detect()
        np.testing.assert_array_equal(got.boxes, expected.boxes)
        np.testing.assert_array_equal(got.classes, expected.classes)
        assert len(got) > 3
    slot.close()
    backend.close()
