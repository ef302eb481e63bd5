"""Small labelled data sets made of coloured rectangles, and configurations to train on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSES = ("Car", "Pedestrian", "Cyclist")
COLOURS = ((40, 40, 220), (40, 220, 40), (220, 40, 40))
SIZES = ((60, 42), (18, 40), (30, 36))
SIZE = (320, 96)


def write_kitti(
    root: Path, count: int, seed: int = 0, classes: tuple[int, ...] = (0, 1, 2)
) -> Path:
    """Write a data set in KITTI layout; the splits `train` and `val` have the same pictures."""
    rng = np.random.default_rng(seed)
    for folder in ("training/image_2", "training/label_2", "ImageSets"):
        (root / folder).mkdir(parents=True)
    names = []
    for number in range(count):
        image = np.full((SIZE[1], SIZE[0], 3), 120, np.uint8)
        lines = ["DontCare -1 -1 -10 300 0 319 20 -1 -1 -1 -1000 -1000 -1000 -10"]
        for slot, index in enumerate(classes):
            width, height = SIZES[index]
            x1 = slot * 100 + int(rng.integers(5, 95 - width))
            y1 = int(rng.integers(24, 90 - height))
            box = (x1, y1, x1 + width, y1 + height)
            cv2.rectangle(image, box[:2], box[2:], COLOURS[index], -1)
            corners = " ".join(f"{value:.2f}" for value in box)
            lines.append(f"{CLASSES[index]} 0.00 0 0 {corners} 1 1 1 0 0 0 0")
        names.append(f"{number:06}")
        cv2.imwrite(str(root / f"training/image_2/{names[-1]}.png"), image)
        (root / f"training/label_2/{names[-1]}.txt").write_text("\n".join(lines) + "\n")
    for split in ("train", "val"):
        (root / f"ImageSets/{split}.txt").write_text("\n".join(names) + "\n")
    return root


def write_yolo(
    root: Path, count: int, names: tuple[str, ...] = ("lorry", "bike"), folders: bool = False
) -> Path:
    """Write a data set in YOLO layout; its splits have the same pictures, with an object per name.

    With `folders`, each picture is named 0.png and has a folder of its own.
    """
    lines = []
    for index in range(len(names)):
        width, height = SIZES[index]
        x1, y1 = 20 + 100 * index, 30
        box = (x1 + width / 2, y1 + height / 2, width, height)
        fractions = [value / SIZE[side % 2] for side, value in enumerate(box)]
        lines.append(" ".join(map(str, (index, *fractions))))
    for number in range(count):
        image = np.full((SIZE[1], SIZE[0], 3), 120, np.uint8)
        for index in range(len(names)):
            x1, y1 = 20 + 100 * index, 30
            image[y1 : y1 + SIZES[index][1], x1 : x1 + SIZES[index][0]] = COLOURS[index]
        name = f"{number}/0" if folders else str(number)
        for kind in ("images", "labels"):
            (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / f"images/{name}.png"), image)
        (root / f"labels/{name}.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(f"names: [{', '.join(names)}]\ntrain: images\nval: images\n")
    return root


PLAIN = {
    "aim": 0, "zoom": [1, 1], "aspect": 0, "drift": [0, 0], "flip": 0, "mosaic": 0, "paste": 0,
    "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "balance": 0, "night": 0,
    "jpeg": 0, "min_size": 0, "min_visible": 0,
}  # fmt: skip
"""Augmentation that changes nothing."""


def small(*roots: Path, **keys: Any) -> list[tuple[str, Any]]:
    """Return settings to train on small pictures, in one process and one thread."""
    settings = {
        "network.input.width": SIZE[0],
        "network.input.height": SIZE[1],
        "network.anchors.shapes": [[60, 42], [18, 40], [30, 36]],
        "network.freeze": None,
        "data.sets": [{"root": str(root)} for root in roots],
        "data.workers": 0,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "batch": 2,
        "epochs": 2,
        "evaluate.every": 0,
    }
    settings.update({key.replace("__", "."): value for key, value in keys.items()})
    return list(settings.items())
