from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.images import ImageSource
from tests.support.media import number_of, picture, read_all

EXIF_ROTATE_90 = bytes.fromhex(
    "ffe1002245786966000049492a0008000000010012010300010000000600000000000000"
)


def save(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), picture(number))


def test_images_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    save(tmp_path, "f1.png", "f2.PNG", "f3.bmp", "f10.jpg", "f11.jpeg", "f100.webp", "f101.tiff")
    (tmp_path / "f4.txt").write_text("not an image")
    (tmp_path / "below").mkdir()
    save(tmp_path / "below", "f0.png")
    source = ImageSource(str(tmp_path), SourceOptions(source_id=2, fps=Fraction(30000, 1001)))
    frames = read_all(source)
    assert [number_of(f.image) for f in frames] == list(range(7))
    assert [(f.source_id, f.frame_id, f.pts) for f in frames] == [(2, k, k) for k in range(7)]
    assert {f.time_base for f in frames} == {Fraction(1001, 30000)}
    info = source.info
    assert (info.kind, info.frames, info.width, info.height) == ("images", 7, 160, 120)
    assert (info.fps, info.origin, info.path, info.live) == (Fraction(30000, 1001), 0, None, False)
    assert [source.stem(k) for k in (0, 3)] == ["f1", "f10"]
    assert all(f.image.flags.c_contiguous and f.image.flags.writeable for f in frames)


def test_a_pattern_or_a_single_image_can_be_read(tmp_path: Path) -> None:
    save(tmp_path, "a1.png", "b1.png", "a2.png")
    (tmp_path / "a3.txt").write_text("not an image")
    frames = read_all(ImageSource(str(tmp_path / "a*"), SourceOptions()))
    assert [number_of(f.image) for f in frames] == [0, 2]
    assert {f.time_base for f in frames} == {Fraction(1, 25)}
    frames = read_all(ImageSource(str(tmp_path / "b1.png"), SourceOptions()))
    assert [number_of(f.image) for f in frames] == [1]


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_unreadable_images_are_left_out_and_named(tmp_path: Path, content: bytes | None) -> None:
    save(tmp_path, *(f"{k}.jpg" for k in range(5)))
    whole = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(whole[: len(whole) // 2] if content is None else content)
    source = ImageSource(str(tmp_path), SourceOptions())
    frames = read_all(source)
    assert [number_of(f.image) for f in frames] == [0, 1, 3, 4]
    assert [f.frame_id for f in frames] == [f.pts for f in frames] == [0, 1, 3, 4]
    assert source.report.skipped == {"corrupt": 1}
    (warning,) = source.report.warnings
    assert str(tmp_path / "2.jpg") in warning


def test_only_unreadable_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    source = ImageSource(str(tmp_path), SourceOptions())
    assert (source.info.width, source.info.height) == (0, 0)
    assert source.read() is None
    assert source.report.skipped == {"corrupt": 1}


def test_every_pixel_format_becomes_bgr(tmp_path: Path) -> None:
    colour = picture(5)
    grey = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(tmp_path / "1.png"), grey)
    cv2.imwrite(str(tmp_path / "2.png"), np.dstack([colour, np.full_like(grey, 128)]))
    cv2.imwrite(str(tmp_path / "3.png"), colour.astype(np.uint16) * 257)
    frames = read_all(ImageSource(str(tmp_path), SourceOptions()))
    expected = [np.dstack([grey] * 3), colour, colour]
    for frame, image in zip(frames, expected, strict=True):
        assert frame.image.dtype == np.uint8
        np.testing.assert_allclose(frame.image.astype(int), image, atol=1)


def test_photos_are_turned_upright_once(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    save(tmp_path, path.name)
    data = path.read_bytes()
    path.write_bytes(data[:2] + EXIF_ROTATE_90 + data[2:])
    source = ImageSource(str(path), SourceOptions())
    image = read_all(source)[0].image
    assert (source.info.width, source.info.height) == (120, 160)
    assert np.abs(image.astype(int) - np.rot90(picture(0), -1)).mean() < 4


def test_start_skips_images(tmp_path: Path) -> None:
    save(tmp_path, *(f"{k}.png" for k in range(6)))
    source = ImageSource(str(tmp_path), SourceOptions(fps=Fraction(2), start=1.5))
    assert (source.info.frames, source.info.origin) == (3, 3)
    assert [(f.frame_id, f.pts) for f in read_all(source)] == [(3, 3), (4, 4), (5, 5)]
    with pytest.raises(SourceError, match="start before 3 s"):
        ImageSource(str(tmp_path), SourceOptions(fps=Fraction(2), start=3))


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(SourceError, match="folder holds no images"):
        ImageSource(str(tmp_path), SourceOptions())
    with pytest.raises(SourceError, match="pattern matches no images"):
        ImageSource(str(tmp_path / "*.png"), SourceOptions())


def test_hidden_files_are_not_read_as_pictures(tmp_path: Path) -> None:
    save(tmp_path, "1.jpg", "2.jpg")
    for name in ("._1.jpg", "._2.jpg", "._3.jpg"):  # as macOS adds them
        (tmp_path / name).write_bytes(bytes.fromhex("0005160700020000") + bytes(4088))
    for spec in (tmp_path, tmp_path / "*.jpg", tmp_path / "*"):
        source = ImageSource(str(spec), SourceOptions())
        assert [number_of(f.image) for f in read_all(source)] == [0, 1]
        assert (source.info.frames, source.report.warnings) == (2, [])
    (tmp_path / "1.jpg").unlink()
    (tmp_path / "2.jpg").unlink()
    with pytest.raises(SourceError, match="folder holds no images"):
        ImageSource(str(tmp_path), SourceOptions())
