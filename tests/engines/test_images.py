import struct
import zlib
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest

from squeezedrive.engines.datasets.images import (
    decode_image,
    image_size,
    read_image,
    read_thumbnail,
)
from squeezedrive.engines.errors import DatasetError
from tests.support.labelled import write_picture


def with_exif(jpeg: bytes, orientation: int, order: str) -> bytes:
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    other = struct.pack(order + "HHII", 0x0100, 4, 1, 77)
    tiff = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, 2)
    body = b"Exif\0\0" + tiff + other + entry + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_is_that_of_the_upright_picture(tmp_path: Path, orientation: int, order: str) -> None:
    path = tmp_path / "a.jpg"
    write_picture(path, (48, 32))
    path.write_bytes(with_exif(path.read_bytes(), orientation, order))
    height, width = cv2.imread(str(path)).shape[:2]
    assert image_size(path) == (width, height)
    assert (width, height) == ((48, 32) if orientation < 5 else (32, 48))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_reads_the_size_of_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_picture(path, (30, 20))
    assert image_size(path) == (30, 20)
    assert read_image(path, (30, 20)).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("suffix", "small"), [(".jpg", (100, 75)), (".png", (100, 75)), (".webp", (800, 600))]
)
def test_thumbnail_is_decoded_at_a_reduced_size(
    tmp_path: Path, suffix: str, small: tuple[int, int]
) -> None:
    path = tmp_path / f"a{suffix}"
    write_picture(path, (800, 600))
    thumbnail, size = read_thumbnail(path, (800, 600), 64)
    assert (thumbnail.shape, size) == (small[::-1], (800, 600))
    assert min(read_thumbnail(path, None, 500)[0].shape) == 600
    with pytest.raises(DatasetError, match="is 800x600, but its labels are for 600x800"):
        read_thumbnail(path, (600, 800), 64)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"is cut off|cannot be decoded"):
        read_thumbnail(path, None, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_thumbnail_is_upright(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    write_picture(path, (480, 320))
    path.write_bytes(with_exif(path.read_bytes(), orientation, "<"))
    upright = (480, 320) if orientation < 5 else (320, 480)
    thumbnail, size = read_thumbnail(path, upright, 64)
    assert size == upright
    assert thumbnail.shape == (upright[1] // 4, upright[0] // 4)


def test_rejects_pictures_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    with pytest.raises(DatasetError, match="no such picture"):
        read_image(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        image_size(path)
    write_picture(path, (30, 20))
    with pytest.raises(DatasetError, match=r"is 30x20, but its labels are for 20x30; .* EXIF"):
        read_image(path, (20, 30))
    with pytest.raises(DatasetError, match=r"is 30x20, but its labels are for 30x21$"):
        read_image(path, (30, 21))
    path.write_bytes(path.read_bytes()[:30])
    for content in (path.read_bytes(), b""):
        path.write_bytes(content)
        for use in (read_image, image_size):
            with pytest.raises(DatasetError, match="cannot be decoded"):
                use(path)


def test_rejects_a_jpeg_that_is_cut_off_but_not_one_with_data_behind(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.jpg"
    write_picture(path, (64, 48))
    whole = with_exif(path.read_bytes(), 1, "<")
    # A thumbnail in the header has its own end marker, which must not count.
    whole = whole[:2] + b"\xff\xe2\x00\x06\xff\xd8\xff\xd9" + whole[2:]
    path.write_bytes(whole + bytes(20_000))
    assert read_image(path).shape == (48, 64, 3)
    for length in (len(whole) - 2, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=r"a\.jpg: is cut off"):
            read_image(path)


@pytest.mark.parametrize("last", [False, True])
def test_size_of_a_png_is_that_after_turning_by_exif_data(tmp_path: Path, last: bool) -> None:
    path = tmp_path / "a.png"
    write_picture(path, (48, 32))
    png = path.read_bytes()
    content = b"eXIf" + struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    check = struct.pack(">I", zlib.crc32(content))
    chunk = struct.pack(">I", len(content) - 4) + content + check
    at = len(png) - 12 if last else 33
    path.write_bytes(png[:at] + chunk + png[at:])
    assert read_image(path).shape[:2] == (48, 32)
    assert image_size(path) == (32, 48)


def test_refuses_a_jpeg_that_claims_more_pixels_than_memory_should_hold(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg", (30, 20))
    content = (tmp_path / "a.jpg").read_bytes()
    place = content.index(b"\xff\xc0") + 5
    for height, width in ((20, 30), (21, 30)):  # the place is right, and a wrong size is no fault
        changed = content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]
        assert decode_image(changed) is not None
    for height, width in ((30_000, 30_000), (65_500, 4_200)):
        changed = content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]
        assert decode_image(changed) is None


@pytest.mark.parametrize("length", [0xFFFF_FFFF, 0x7FFF_FFFF, 2000])
@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt"])
def test_refuses_a_png_with_a_chunk_longer_than_the_file(length: int, kind: bytes) -> None:
    _, encoded = cv2.imencode(".png", np.zeros((20, 30, 3), np.uint8))
    content = encoded.tobytes()
    place = content.index(b"IDAT") - 4
    longer = content[:place] + struct.pack(">I", length) + kind + content[place + 8 :]
    with mock.patch.object(cv2, "imdecode", side_effect=AssertionError("must not be asked")):
        assert decode_image(longer) is None


def test_data_after_the_end_of_a_png_does_no_harm() -> None:
    _, encoded = cv2.imencode(".png", np.full((20, 30, 3), 7, np.uint8))
    image = decode_image(encoded.tobytes() + b"\xff" * 50)
    assert image is not None
    assert (image == 7).all()
