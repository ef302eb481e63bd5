"""`evaluate` on several data sets: one table, all figures as JSON, and plots by set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from squeezedrive.engines.cli import evaluate as verb
from squeezedrive.engines.errors import UserError
from tests.support.labelled import kitti_line, write_kitti, write_picture

CAR, VAN, FAR = (10, 5, 60, 50), (62, 0, 100, 50), (70, 10, 110, 30)
FIT = ("--size", "120x60", "--fit", "stretch")  # the pictures' own size


def evaluate(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    verb.add_options(parser)
    verb.run(parser.parse_args([*map(str, arguments)]))


def write_results(
    folder: Path, pictures: dict[str, list[tuple[str, tuple[float, ...], float]]]
) -> Path:
    folder.mkdir()
    for name, rows in pictures.items():
        lines = [kitti_line(n, b)[:-1] + f" {score}\n" for n, b, score in rows]  # type: ignore[arg-type]
        (folder / f"{name}.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def sets(tmp_path: Path) -> list[object]:
    """Return options of two KITTI sets (the second with unknown occlusion) and one YOLO set."""
    pictures = {"a": kitti_line("Car", CAR) + kitti_line("Truck", VAN), "b": kitti_line("Car", CAR)}
    first = write_kitti(tmp_path / "drives", pictures)
    unknown = kitti_line("Car", CAR, occlusion=3) + kitti_line("Pedestrian", FAR, occlusion=3)
    second = write_kitti(tmp_path / "roads", {"c": unknown, "d": unknown})
    (second / "ImageSets" / "val-night.txt").write_text("d\n")
    third = tmp_path / "yolo"
    write_picture(third / "images" / "e.jpg")
    (third / "labels").mkdir()
    (third / "labels" / "e.txt").write_text("0 0.5 0.5 0.5 0.5")
    (third / "data.yaml").write_text("names: [person]\nval: images\n")
    results = [
        write_results(
            tmp_path / "found1",
            {"a": [("car", CAR, 0.9), ("car", VAN, 0.8)], "b": [("car", FAR, 0.7)]},
        ),
        write_results(
            tmp_path / "found2",
            {"c": [("car", CAR, 0.9), ("pedestrian", CAR, 0.8)], "d": [("car", FAR, 0.5)]},
        ),
        write_results(tmp_path / "found3", {"e": [("pedestrian", (30, 15, 90, 45), 0.3)]}),
    ]
    options: list[object] = ["--names", "truck=dontcare,person=pedestrian", *FIT]
    for root, folder in zip((first, second, third), results, strict=True):
        options += ["--data", root, "--detections", folder]
    return options


def test_prints_one_table_of_several_sets(
    sets: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(*sets)
    titles, legend, *tables = capsys.readouterr().out.split("\n\n")
    assert [line.split("; ")[1].split(",")[1] for line in titles.splitlines()] == [
        " 2 pictures", " 2 pictures", " 1 pictures",
    ]  # fmt: skip
    assert "count objects of 12.5 px and more" in legend
    drives, roads, night, yolo, mean = ([r.split() for r in t.splitlines()] for t in tables[:5])
    half = "50.50"  # precision 1 up to recall 1/2: 51 of 101 positions
    assert " ".join(drives[0]) == (
        "set class format objects KITTI AP50 R at P 90 recall precision false"
    )
    # The truck is ignored; the box at FAR is false. KITTI's AP: 1 of 11 positions.
    assert drives[1:] == [
        ["drives", "car", "files", "2", "9.09", "50.50", "50.00", "50.00", "50.00", "0.500"],
        ["drives", "all", "files", "2", "9.09", "50.50", "50.00", "50.00", "50.00", "0.500"],
    ]
    assert roads == [
        ["roads", "car", "files", "2", "-", half, "50.00", "50.00", "50.00", "0.500"],
        ["roads", "pedestrian", "files", "2", "-", "0.00", "0.00", "0.00", "0.00", "0.500"],
        ["roads", "all", "files", "4", "-", "25.25", "25.00", "25.00", "33.33", "1.000"],
    ]
    assert [row[:5] for row in night] == [
        ["roads", "val-night", "car", "files", "1"],
        ["roads", "val-night", "pedestrian", "files", "1"],
        ["roads", "val-night", "all", "files", "2"],
    ]
    assert [row[-1] for row in night] == ["1.000", "0.000", "1.000"]
    # No box reaches the score threshold, so precision is unknown; AP uses all scores.
    assert yolo == [
        ["yolo", "pedestrian", "files", "1", "-", "100.00", "100.00", "0.00", "-", "0.000"],
        ["yolo", "all", "files", "1", "-", "100.00", "100.00", "0.00", "-", "0.000"],
    ]
    assert [" ".join(row) for row in mean] == [
        "mean of 3 sets car files 9.09 50.50 50.00 50.00 50.00 0.500",
        "mean of 3 sets pedestrian files - 50.00 50.00 0.00 0.00 0.250",
        "mean of 3 sets all files 9.09 58.58 58.33 25.00 41.67 0.500",
    ]
    assert tables[5] == (
        "mean AP of the sets, files: 44.78 (drives 9.09, roads 25.25, yolo 100.00)"
    )
    assert tables[6].startswith("drives: by height")
    # The objects are 45 px high; the box at FAR is 20 px high.
    assert [row.split() for row in tables[7].splitlines()] == [
        ["class", "format", "16-25", "25-40", "40-80", "80-180", "over", "180"],
        ["car", "objects", "0", "0", "2", "0", "0"],
        ["car", "recall", "files", "-", "-", "50.00", "-", "-"],
        ["car", "R", "at", "P", "90", "files", "-", "-", "50.00", "-", "-"],
        ["car", "false", "files", "0.500", "0.000", "0.000", "0.000", "0.000"],
    ]
    lines = [line for table in (legend, *tables) for line in table.splitlines()]
    assert max(map(len, lines)) <= 100


def test_writes_all_figures_of_several_sets_as_json(sets: list[object], tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    evaluate(*sets, "--json", output, "--score", "0.85", "--min-height", "110")
    drives, roads, yolo = json.loads(output.read_text())
    assert [Path(part["source"]["detections"]).name for part in (drives, roads, yolo)] == [
        "found1", "found2", "found3",
    ]  # fmt: skip
    assert "kitti" in drives
    assert "kitti" not in roads
    car = drives["road"]["classes"]["car"]
    # 110 px of a picture 640 wide are 20.6 px here, so the false box of 20 px is ignored.
    assert car == {
        "AP50": round(51 / 101, 6), "score_at_precision": 0.9, "objects": 2, "recall": 0.5,
        "precision": 1, "false_a_picture": 0, "recall_at_precision": 0.5,
        "by_height": car["by_height"],
    }  # fmt: skip
    assert car["by_height"]["40-80"] == {
        "objects": 2, "recall": 0.5, "precision": 1, "false_a_picture": 0,
        "recall_at_precision": 0.5,
    }  # fmt: skip
    assert (drives["road"]["score"], drives["road"]["min_height"]) == (0.85, 110)
    assert list(drives["road"]["classes"]) == ["car"]  # no pedestrian is labelled
    assert roads["road"]["parts"]["val-night"]["pictures"] == 1
    assert roads["road"]["parts"]["val-night"]["classes"]["car"]["AP50"] == 0
    assert yolo["road"]["mAP50"] == 1


def test_counts_objects_with_unknown_occlusion(sets: list[object], tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    evaluate(*sets, "--json", output)
    roads = json.loads(output.read_text())[1]
    assert roads["mistakes"]["objects"]["car"]["found"] == 1
    assert sum(roads["mistakes"]["objects"]["pedestrian"].values()) == 2
    assert roads["min_iou"] == [0.5, 0.5, 0.5]


def test_a_part_has_no_kitti_figure(
    sets: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "drives" / "ImageSets" / "val-day.txt").write_text("a\n")
    evaluate(*sets)
    _, _, drives, day, *_ = capsys.readouterr().out.split("\n\n")
    assert [row.split()[4] for row in drives.splitlines()[1:]] == ["9.09", "9.09"]
    assert [row.split()[4:7] for row in day.splitlines()] == [["1", "-", "100.00"]] * 2


def test_evaluates_a_network_on_several_sets_in_several_formats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = kitti_line("Car", CAR)
    options: list[object] = []
    for name in ("first", "second"):
        options += ["--data", write_kitti(tmp_path / name, {"a": text, "b": text})]
    output = tmp_path / "figures.json"
    evaluate(
        *options, "--precision", "fp32,int8", "--json", output, "--size", "128x64",
        "--fit", "stretch", "--backend", "cpu",
    )  # fmt: skip
    titles, _, *tables = capsys.readouterr().out.split("\n\n")
    assert [line.split(",")[1].split()[1] for line in titles.splitlines()] == ["fp32", "int8"] * 2
    rows = [row.split()[:3] for table in tables[:2] for row in table.splitlines()]
    assert rows[1:] == [
        [name, class_name, variant]
        for name in ("first", "second")
        for class_name in ("car", "all")
        for variant in ("fp32", "int8")
    ]
    assert [line.split(":")[0] for line in tables[3].splitlines()] == [
        "mean AP of the sets, fp32", "mean AP of the sets, int8",
    ]  # fmt: skip
    figures = json.loads(output.read_text())
    got = [(Path(part["data"]).name, part["source"]["precision"]) for part in figures]
    assert got == [(name, p) for name in ("first", "second") for p in ("fp32", "int8")]
    # The same pictures give the same figures in each format, but the formats differ.
    assert figures[0]["road"] == figures[2]["road"]
    assert figures[0]["coco"] != figures[1]["coco"] or figures[0]["road"] != figures[1]["road"]


def test_writes_plots_of_several_sets_into_separate_folders(
    sets: list[object], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "plots"
    evaluate(*sets, "--plots", folder)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png")) == [
        f"{name}/{plot}.png"
        for name in ("drives", "roads", "yolo")
        for plot in ("confusion", "precision-recall")
    ]
    with pytest.raises(UserError, match=r"drives/precision-recall\.png.*exists already"):
        evaluate(*sets, "--plots", folder)


def test_rejects_options_that_do_not_fit_together(sets: list[object], tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="--detections: expected one for each of 3 data sets, got 4"
    ):
        evaluate(*sets, "--detections", tmp_path)
    with pytest.raises(
        UserError, match=r"drives: expected different data sets, got this one twice"
    ):
        evaluate("--data", tmp_path / "drives", "--data", tmp_path / "roads/../drives")
    with pytest.raises(UserError, match="names: lorry: no object has this name"):
        evaluate(
            "--data", tmp_path / "drives", "--data", tmp_path / "roads", "--names", "lorry=car"
        )


@pytest.mark.parametrize("value", ["-1", "high", "nan", "inf"])
def test_rejects_a_least_height_that_is_not_a_number_of_pixels(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        evaluate("--data", "here", f"--min-height={value}")
    assert caught.value.code == 2
    assert "expected a height in pixels" in capsys.readouterr().err
