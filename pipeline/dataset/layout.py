"""Write a data set in KITTI layout, picture by picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2

from squeezedrive.engines.errors import DatasetError, UserError
from squeezedrive.pipeline.core.frame import Image
from squeezedrive.pipeline.dataset.labels import KittiLabel

QUALITY = 92  # of the JPEG files

LabelledPicture = tuple[str, Image, list[KittiLabel]]
"""Name of a picture, its BGR pixels and its labels."""


def write_kitti_layout(out: Path, pictures: Iterable[LabelledPicture]) -> int:
    """Write pictures and their labels into a new folder, split "train"; return their number.

    The list of the split grows with every picture, so the folder is usable if this ends early.

    Raises
    ------
    DatasetError
        If the folder exists or cannot be written.
    """
    images, labels, lists = out / "training/image_2", out / "training/label_2", out / "ImageSets"
    count = 0
    try:
        for folder in (images, labels, lists):
            folder.mkdir(parents=True)
        with (lists / "train.txt").open("w", encoding="utf-8", buffering=1) as split:
            for name, image, entries in pictures:
                _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
                (images / f"{name}.jpg").write_bytes(encoded.tobytes())
                text = "".join(entry.line() for entry in entries)
                (labels / f"{name}.txt").write_text(text, encoding="utf-8")
                split.write(f"{name}\n")
                count += 1
    except FileExistsError:
        raise DatasetError(f"{out}: exists already, expected a new folder") from None
    except UserError:  # of a source; it may be an OSError as well
        raise
    except OSError as error:
        raise DatasetError(f"{out}: cannot be written: {error.strerror}") from None
    return count
