"""Training and evaluation with data sets of other layouts and other classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

from squeezedrive.engines.__main__ import main
from squeezedrive.engines.model.weights import load_weights
from squeezedrive.engines.training.config import load_train_config
from squeezedrive.engines.training.data import TrainingSet
from squeezedrive.engines.training.loop import train
from tests.support.rectangles import PLAIN, SIZE, small

NAMES = ("truck", "Traffic light")
BOXES = ((20, 30, 80, 72), (150, 20, 168, 60))
COUNT = 2


def pictures(folder: Path) -> list[str]:
    """Write pictures that all show a truck and a traffic light at `BOXES`."""
    folder.mkdir(parents=True)
    for number in range(COUNT):
        image = np.full((SIZE[1], SIZE[0], 3), 60 + 60 * number, np.uint8)
        for box, colour in zip(BOXES, ((40, 40, 220), (40, 220, 40)), strict=True):
            cv2.rectangle(image, box[:2], box[2:], colour, -1)
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return [f"{number}.png" for number in range(COUNT)]


def yolo(root: Path) -> None:
    (root / "labels").mkdir(parents=True)
    for name in pictures(root / "images"):
        lines = ["0 0.9 0.5 0.1 0.1"]  # a car, not a class of the network
        for number, (x1, y1, x2, y2) in enumerate(BOXES, 1):
            centre = ((x1 + x2) / 2 / SIZE[0], (y1 + y2) / 2 / SIZE[1])
            size = ((x2 - x1) / SIZE[0], (y2 - y1) / SIZE[1])
            lines.append(" ".join(map(str, (number, *centre, *size))))
        (root / "labels" / name).with_suffix(".txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(
        "names: [car, truck, traffic light]\ntrain: images\nval: images\n"
    )


def coco(root: Path) -> None:
    files = pictures(root / "images")
    content = {
        "images": [
            {"id": k, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
            for k, name in enumerate(files)
        ],
        "categories": [{"id": 7 + k, "name": name} for k, name in enumerate(("Car", *NAMES))],
        "annotations": [
            {"image_id": k, "category_id": 8 + index, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for k in range(COUNT)
            for index, (x1, y1, x2, y2) in enumerate(BOXES)
        ],
    }
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("write", [yolo, coco])
def test_trains_and_evaluates_other_classes(
    tmp_path: Path, write: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "signs", tmp_path / "run"
    write(root)
    plain = [(f"augment.{key}", value) for key, value in PLAIN.items()]
    own = small(
        root, network__output__classes=NAMES, epochs=1, evaluate__every=1, data__fit="letterbox"
    )
    config = load_train_config(None, [*plain, *own])
    sample, labelled = TrainingSet(config)[0, 0, 1]
    np.testing.assert_allclose(sample.boxes, BOXES, atol=1e-3)
    assert sample.classes.tolist() == [0, 1]
    assert labelled.tolist() == [True, True]

    assert train(config, out) == 0
    (line,) = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
    for name in NAMES:
        assert {f"AP50/{name}", f"AP50-95/{name}"} <= line.keys()
    assert line["mAP"] == pytest.approx(np.mean([line[f"AP50-95/{name}"] for name in NAMES]))
    assert load_weights(out / "run.npz").profile.output.classes == NAMES

    capsys.readouterr()
    arguments = ["--data", str(root), "--weights", str(out / "run.npz"), "--backend", "cpu"]
    assert main(["evaluate", *arguments]) == 0
    said = capsys.readouterr().out
    assert "fit letterbox" in said  # `evaluate` uses the fit of the training
    rows = [text.split("  ")[0] for text in said.splitlines()]
    assert {*NAMES, "mean"} <= set(rows)
