"""Picture files: their size without decoding them, and their pixels."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.datasets.dataset import DatasetError

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"))


def is_image(path: Path) -> bool:
    """Return whether a file's name is that of a picture."""
    return path.suffix.lower() in SUFFIXES


def read_image(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Decode a picture, turned upright as its EXIF data say.

    Parameters
    ----------
    path : Path
        The file.
    size : tuple of int or None
        Width and height that the labels were made for, checked if known.

    Returns
    -------
    uint8 array (height, width, 3)
        BGR.

    Raises
    ------
    DatasetError
        If there is no such file, it is no picture or of another size.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such picture")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f"{path}: cannot be decoded; is it a whole picture?")
    height, width = image.shape[:2]
    if size is not None and size != (width, height):
        raise DatasetError(
            f"{path}: the picture is {width}x{height}, but its labels are for {size[0]}x{size[1]}"
        )
    return image.astype(np.uint8, copy=False)


def image_size(path: Path) -> tuple[int, int]:
    """Return the width and height of a picture as `read_image` will give it.

    JPEG and PNG tell it in their first bytes, a hundred times faster than decoding.

    Raises
    ------
    DatasetError
        If there is no such file or it is no picture.
    """
    try:
        with path.open("rb") as file:
            start = file.read(24)
            if start[:8] == b"\x89PNG\r\n\x1a\n":
                width, height = struct.unpack(">II", start[16:24])
                return width, height
            if start[:2] == b"\xff\xd8":
                file.seek(2)
                return _jpeg_size(file)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    except (struct.error, IndexError):
        pass  # a damaged header: what the decoder makes of it counts
    height, width = read_image(path).shape[:2]
    return width, height


def _jpeg_size(file: BinaryIO) -> tuple[int, int]:
    """Walk the segments of a JPEG file (ITU-T T.81, annex B) up to the frame header."""
    turned = False
    while True:
        marker = file.read(2)
        while marker[1] == 0xFF:  # fill bytes
            marker = marker[1:] + file.read(1)
        (length,) = struct.unpack(">H", file.read(2))
        kind = marker[1]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">xHH", file.read(5))
            return (height, width) if turned else (width, height)
        segment = file.read(length - 2)
        if kind == 0xE1 and segment[:6] == b"Exif\0\0":
            turned = _exif_orientation(segment[6:]) >= 5  # 5 to 8 exchange rows and columns


def _exif_orientation(tiff: bytes) -> int:
    """Return the orientation tag (0x0112) of the first directory; 1, upright, if there is none."""
    order = "<" if tiff[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (entries,) = struct.unpack_from(order + "H", tiff, start)
    for entry in range(entries):
        tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * entry)
        if tag == 0x0112:
            return int(value)
    return 1
