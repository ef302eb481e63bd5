"""Labels and boxes for tests, and data sets on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from squeezedrive.engines.datasets.dataset import LabelledImage, LabelledImageBuilder
from squeezedrive.engines.evaluation.results import ImageDetections

Box = tuple[float, float, float, float]


def box(x: float, y: float = 0, width: float = 100, height: float = 100) -> Box:
    """Return the corners of a box."""
    return (x, y, x + width, y + height)


def item(*labels: Mapping[str, object], ignore: Sequence[tuple[Box, int]] = ()) -> LabelledImage:
    """Return a picture; labels are arguments of `LabelledImageBuilder.add`, by default class 0."""
    builder = LabelledImageBuilder(Path("picture.png"))
    for label in labels:
        builder.add(**{"class_index": 0, **label})  # type: ignore[arg-type]
    for region, class_index in ignore:
        builder.ignore(region, class_index)
    return builder.build()


def found(*rows: tuple[Box, float] | tuple[Box, float, int]) -> ImageDetections:
    """Return boxes from (corners, score) or (corners, score, class)."""
    return ImageDetections(
        np.array([row[0] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float64),
        np.array([row[2] if len(row) == 3 else 0 for row in rows], np.intp),
    )


def random_pictures(
    seed: int, pictures: int, classes: int
) -> tuple[list[LabelledImage], list[ImageDetections]]:
    """Return crowded pictures: objects of all kinds, and boxes near them with tied scores."""
    rng = np.random.default_rng(seed)
    items, results = [], []
    for _ in range(pictures):
        builder = LabelledImageBuilder(Path("picture.png"))
        rows = []
        for _ in range(rng.integers(0, 7)):
            corner, size = rng.integers(0, 250, 2), rng.integers(20, 110, 2)
            corners = np.array([*corner, *(corner + size)], np.float64)
            class_index = int(rng.integers(classes))
            if rng.random() < 0.15:
                builder.ignore(tuple(corners), int(rng.choice([-1, class_index])))
            else:
                builder.add(
                    tuple(corners),
                    class_index,
                    truncation=float(rng.choice([0, 0, 0.2, 0.4, 0.6])),
                    occlusion=int(rng.choice([0, 0, 0, 1, 2, 3])),
                    neighbour=bool(rng.random() < 0.2),
                )
            for _ in range(rng.integers(0, 4)):
                reach = int(rng.choice([3, 3, 15]))
                jitter = corners + rng.integers(-reach, reach + 1, 4)
                jitter += 300 * (rng.random() < 0.1)
                other = int(rng.integers(classes)) if rng.random() < 0.2 else class_index
                rows.append((tuple(jitter), float(rng.integers(1, 20) / 20), other))
        items.append(builder.build())
        results.append(found(*rows))
    return items, results


def write_picture(path: Path, size: tuple[int, int] = (120, 60)) -> None:
    """Write a picture of noise with this width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    assert cv2.imwrite(str(path), rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


def kitti_line(name: str, corners: Box, truncation: float = 0.0, occlusion: int = 0) -> str:
    """Return a line of a KITTI label file."""
    numbers = " ".join(f"{value:.2f}" for value in corners)
    return f"{name} {truncation:.2f} {occlusion} -1.57 {numbers} 1.5 1.6 4.0 1.0 1.5 10.0 0.1\n"


def write_kitti(root: Path, pictures: Mapping[str, str], split: str = "val") -> Path:
    """Write a data set from names of pictures and texts of label files; return its folder."""
    (root / "ImageSets").mkdir(parents=True)
    (root / "training" / "label_2").mkdir(parents=True)
    (root / "ImageSets" / f"{split}.txt").write_text("\n".join(pictures) + "\n")
    for name, text in pictures.items():
        write_picture(root / "training" / "image_2" / f"{name}.jpg")
        (root / "training" / "label_2" / f"{name}.txt").write_text(text)
    return root
