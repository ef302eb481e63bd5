"""Read picture files: their size without decoding, and their pixels."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.dataset import noted
from squeezedrive.engines.errors import DatasetError

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"))
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
REDUCED = (
    (8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
    (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    (2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
    (1, cv2.IMREAD_GRAYSCALE),
)
MAX_PIXELS = 2**28  # 16384x16384; OpenCV fills the size that a JPEG claims, up to 5 GB
PNG_START = b"\x89PNG\r\n\x1a\n"
SCAN = 0xDA  # kind of the segment after which a JPEG file's pixels follow


def is_image(path: Path) -> bool:
    """Return whether a file has a picture's suffix and is not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def pictures_of(
    folder: Path, names: Collection[str], split: str, faults: list[DatasetError] | None = None
) -> dict[str, Path]:
    """Return the pictures of a split by name; names are without suffix.

    Raises
    ------
    DatasetError
        If the folder cannot be read, or a picture is missing and there is no list of `faults`.
    """
    try:
        there = {path.stem: path for path in folder.iterdir() if is_image(path)}
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror}") from None
    for name in names:
        with noted(faults):
            if name not in there:
                hint = "; the list has one name per line" if " " in name else ""
                raise DatasetError(f"{folder}: no picture {name}, which is in split {split}{hint}")
    return {name: there[name] for name in names if name in there}


def without_suffix(name: str) -> str:
    """Return a picture's name from a split's list, without the suffix that some lists have."""
    path = Path(name)
    return name.removesuffix(path.suffix) if is_image(path) else name


def read_image(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Decode a picture and turn it upright according to its EXIF data.

    Parameters
    ----------
    size : tuple of int or None
        Width and height that the labels were made for, checked if known.

    Returns
    -------
    uint8 array (height, width, 3)
        BGR.

    Raises
    ------
    DatasetError
        If the file does not exist, is not a picture, is cut off or has another size.
    """
    image = _decode(path, _content(path), cv2.IMREAD_COLOR)
    height, width = image.shape[:2]
    _check_size(path, (width, height), size)
    return image


def read_thumbnail(
    path: Path, size: tuple[int, int] | None, shortest: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decode a whole picture at a small size, fast; for a look at it, not for training.

    JPEG pictures are decoded at 1/2, 1/4 or 1/8 of their size.

    Parameters
    ----------
    size : tuple of int or None
        Width and height that the labels were made for, checked if known.
    shortest : int
        Minimum length of the shorter side in pixels, unless the picture itself is smaller.

    Returns
    -------
    thumbnail : uint8 array (height, width)
        Brightness.
    size : tuple of int
        Width and height of the picture itself.

    Raises
    ------
    DatasetError
        If the picture cannot be used; see `read_image`.
    """
    content = _content(path)
    real = _header_size(io.BytesIO(content))
    if real is None:
        image = _decode(path, content, cv2.IMREAD_GRAYSCALE)
        real = (image.shape[1], image.shape[0])
    else:
        factor = max(1, min(real) // shortest)
        image = _decode(path, content, next(flag for n, flag in REDUCED if factor >= n))
    _check_size(path, real, size)
    return image, real


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise DatasetError(f"{path}: no such picture")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    if content.startswith(JPEG_START) and not _jpeg_is_whole(content):
        raise DatasetError(f"{path}: is cut off; copy it again or take it out of the data set")
    return content


def _decode(path: Path, content: bytes, flags: int) -> NDArray[np.uint8]:
    image = decode_image(content, flags)
    if image is None:
        raise DatasetError(f"{path}: cannot be decoded; is it a whole picture?")
    return image


def decode_image(content: bytes, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8] | None:
    """Decode a picture, for IMREAD_COLOR as BGR and upright; return None if that is impossible.

    A file that claims more than it can hold is refused before OpenCV allocates memory for it:
    more than `MAX_PIXELS` of JPEG or PNG, or chunks of PNG that are longer than the file.
    """
    size = _header_size(io.BytesIO(content))
    if (size is not None and math.prod(size) > MAX_PIXELS) or not _png_chunks_fit(content):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # an empty file, or an enormous size
        return None
    return None if image is None else image.astype(np.uint8, copy=False)


def _png_chunks_fit(content: bytes) -> bool:
    """Return whether all chunks of a PNG file end within it; True for other files."""
    place = len(PNG_START)
    while content.startswith(PNG_START) and place < len(content):
        if len(content) < place + 8:
            return False
        length, kind = struct.unpack_from(">I4s", content, place)
        place += length + 12  # with length, kind and check sum
        if kind == b"IEND":
            break
    return place <= len(content)


def _check_size(path: Path, real: tuple[int, int], size: tuple[int, int] | None) -> None:
    if size is not None and size != real:
        hint = "; is it turned by its EXIF data? Labels have to be for the upright picture"
        raise DatasetError(
            f"{path}: the picture is {real[0]}x{real[1]}, but its labels are for"
            f" {size[0]}x{size[1]}{hint if size == real[::-1] else ''}"
        )


def image_size(path: Path) -> tuple[int, int]:
    """Return the width and height of a picture as `read_image` returns it.

    The first bytes of JPEG and PNG files hold them, which is a hundred times faster than decoding.

    Raises
    ------
    DatasetError
        If the file does not exist or is not a picture.
    """
    try:
        with path.open("rb") as file:
            size = _header_size(file)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    if size is None:
        height, width = read_image(path).shape[:2]
        return width, height
    return size


def _header_size(file: BinaryIO) -> tuple[int, int] | None:
    """Return width and height if the first bytes hold them, else None."""
    try:
        start = file.read(24)
        if start[:8] == PNG_START:
            width, height = struct.unpack(">II", start[16:24])
            return None if _png_has_exif(file) else (width, height)
        return _jpeg_size(file) if start[:2] == JPEG_START else None
    except (struct.error, IndexError):  # a damaged header
        return None


def _png_has_exif(file: BinaryIO) -> bool:
    """Return whether a PNG file has EXIF data, which may turn it; they can be the last chunk."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            return True
        file.seek(length + 4, io.SEEK_CUR)  # with the check sum
    return False


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of a JPEG file's segments (ITU-T T.81, annex B) up to the pixels.

    Stops early where no segment follows; raises struct.error or IndexError where the file ends.
    """
    file.seek(len(JPEG_START))
    kind = 0
    while kind != SCAN:
        marker = file.read(2)
        if marker[0] != 0xFF:
            return
        while marker[1] == 0xFF:  # fill bytes
            marker = marker[1:] + file.read(1)
        kind = marker[1]
        (length,) = struct.unpack(">H", file.read(2))
        if length < 2:
            return
        yield kind, file.read(length - 2)


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    """Return width and height from the frame header; None if there is no header."""
    turned = False
    for kind, segment in _jpeg_segments(file):
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">xHH", segment)
            return (height, width) if turned else (width, height)
        if kind == 0xE1 and segment[:6] == b"Exif\0\0":
            turned = _exif_orientation(segment[6:]) >= 5  # 5 to 8 exchange rows and columns
    return None


def _jpeg_is_whole(content: bytes) -> bool:
    """Return whether the end marker follows the pixels; decoders may fill missing pixels with grey.

    The marker need not come last, since some cameras append data. It need not be the only one,
    since thumbnails have their own.
    """
    if content.endswith(JPEG_END):
        return True
    file = io.BytesIO(content)
    try:
        for kind, _ in _jpeg_segments(file):
            if kind == SCAN:
                return content.find(JPEG_END, file.tell()) >= 0
    except (struct.error, IndexError):
        pass  # a damaged header: the decoder decides
    return True


def _exif_orientation(tiff: bytes) -> int:
    """Return the orientation tag (0x0112) of the first directory; 1 (upright) if it is missing."""
    order = "<" if tiff[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (entries,) = struct.unpack_from(order + "H", tiff, start)
    for entry in range(entries):
        tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * entry)
        if tag == 0x0112:
            return int(value)
    return 1
