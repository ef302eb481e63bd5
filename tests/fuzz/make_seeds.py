"""Makes the binary seeds again: `python -m tests.fuzz.make_seeds`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from tests.fuzz.targets.base import SEEDS
from tests.fuzz.targets.positions import PARTS
from tests.support.gps import write_data, write_novatek
from tests.support.media import Extra, write_video

SIZE = (64, 48)
FRAMES = 8


def _draw(number: int, size: tuple[int, int]) -> np.ndarray:
    """Draw a colour gradient that moves from frame to frame."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    shade = ((x * 4 + number * 8) % 256, y * 5, np.full_like(x, 60 + number))
    return np.stack(shade, axis=-1).astype(np.uint8)


def make(folder: Path) -> None:
    """Write all binary seeds into a folder."""
    quiet = "log-level=none:keyint=4"
    for name, options in {
        "h264.mp4": {"audio": "aac", "languages": ("eng", "deu"), "rotation": 90},
        "fragmented.mp4": {"audio": "aac", "muxer": {"movflags": "frag_keyframe+empty_moov"}},
        "hevc.mp4": {"codec": "libx265", "options": {"x265-params": quiet}, "tags": (9, 1)},
        "h264.ts": {"audio": "mp2"},
        "mpeg2.ts": {"codec": "mpeg2video", "audio": "ac3"},
        "h264.mkv": {"audio": "flac"},
        "vp9.webm": {"codec": "libvpx-vp9", "audio": "libopus", "options": {"cpu-used": "8"}},
        "mpeg4.avi": {"codec": "mpeg4", "audio": "libmp3lame"},
        "mjpeg.avi": {
            "codec": "mjpeg",
            "pix_fmt": "yuvj420p",
            "audio": "pcm_s16le",
            "audio_rate": 8000,
        },
        "mpeg2.mpg": {"codec": "mpeg2video", "audio": "mp2"},
        "vp8.ogg": {"codec": "libvpx", "audio": "flac"},
        "flv1.flv": {"codec": "flv1", "audio": "aac"},
        "h263.3gp": {"codec": "h263", "size": (128, 96)},
    }.items():
        settings = {"size": SIZE, "draw": _draw, "options": {"g": "4"}, **options}
        write_video(folder / name, FRAMES, **settings)
    _write_positions(folder)
    picture = _draw(3, SIZE)
    alpha = cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA)
    for name, pixels, options in (
        ("grey.jpg", cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), [cv2.IMWRITE_JPEG_QUALITY, 80]),
        ("progressive.jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        ("alpha.png", alpha, []),
        ("deep.png", picture.astype(np.uint16) * 257, []),
        ("a.bmp", picture[:24, :32], []),
        ("a.webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 50]),
        ("a.tif", picture, [cv2.IMWRITE_TIFF_COMPRESSION, 5]),
    ):
        cv2.imwrite(str(folder / name), pixels, options)
    jpeg = (folder / "progressive.jpg").read_bytes()
    (folder / "exif.jpg").write_bytes(jpeg[:2] + _exif(6) + jpeg[2:])


def _write_positions(folder: Path) -> None:
    """Write the recordings with positions."""
    write_novatek(folder / "novatek.mp4", PARTS["novatek.mp4"], size=SIZE)
    write_data(folder / "gopro.mp4", b"gpmd", PARTS["gopro.mp4"], size=SIZE)
    write_data(folder / "camm.mp4", b"camm", PARTS["camm.mp4"], size=SIZE)
    texts = [(k * 1000, 1000, one) for k, one in enumerate(PARTS["subtitles.mp4"])]
    texts = [(at, long, len(one).to_bytes(2, "big") + one) for at, long, one in texts]
    write_video(
        folder / "subtitles.mp4", 15, Fraction(1, 5), rate=5, size=SIZE,
        extras=[Extra("mov_text", texts)],
    )  # fmt: skip


def _exif(orientation: int) -> bytes:
    """Return an EXIF segment with the orientation of a JPEG picture."""
    entry = bytes([1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0])
    tiff = b"MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)
    return b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff


if __name__ == "__main__":
    make(SEEDS)
