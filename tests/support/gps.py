"""Recordings with positions in the formats of NovaTek, GoPro and Google, GPX and NMEA texts.

In all of them a car starts at 48 N 11 E on 2026-11-25 at 10:11:12 UTC and goes north at 20 m/s.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av

from squeezedrive.pipeline.core.boxes import Mp4Box, inside, rename_entries, top_boxes
from squeezedrive.pipeline.core.moments import format_moment
from tests.support.media import Extra, write_video

CREATED = "2026-11-25T10:11:12.000000Z"
UTC = 1_795_601_472.0  # the same, in seconds since 1970
STEP = 20 / 111_195  # degrees of latitude that the car goes in a second


def latitude(second: float) -> float:
    return 48 + STEP * second


def block(second: int, place: int, status: bytes = b"ANE\0", **other: float) -> bytes:
    """Return a block in NovaTek's format, with its record at byte 16 or 48."""
    lat = other.get("lat", 4800 + 60 * STEP * second)
    record = struct.pack(
        "<6I4s4f", 10, 11, 12 + second, 26, 11, 25, status, lat, 1100.0, 20 * 3600 / 1852, 0.0
    )
    head = struct.pack(">I", 256) + b"freeGPS " + struct.pack("<I", 76)
    return (head.ljust(place, b"\0") + record).ljust(256, b"\0")


def write_novatek(path: Path, blocks: Sequence[bytes], **options: object) -> None:
    """Write a video with a block for each second, between its pictures and listed in moov/gps."""
    data = Extra("bin_data", [(k * 1000, 1000, one) for k, one in enumerate(blocks)])
    _write(path, len(blocks), data, options)
    with av.open(str(path)) as container:
        places = [p.pos for p in container.demux(container.streams.data[0]) if p.size]
    with path.open("r+b") as file:
        moov = next(inside(file, top_boxes(file), b"moov"))
        assert moov.end == path.stat().st_size
        track: Mp4Box = list(inside(file, top_boxes(file), b"moov", b"trak"))[1]
        file.seek(track.begin - 4)
        file.write(b"free")  # hides the track, which only placed the blocks
        table = b"".join(struct.pack(">II", place, 256) for place in places)
        gps = struct.pack(">I4sII", 16 + len(table), b"gps ", 0x101, len(places)) + table
        file.seek(moov.end)
        file.write(gps)
        file.seek(moov.begin - 8)
        file.write(struct.pack(">I", moov.end + len(gps) - moov.begin + 8))


def write_data(path: Path, kind: bytes, samples: Sequence[bytes], **options: object) -> None:
    """Write a video with a data track of this kind, one sample a second."""
    data = Extra("bin_data", [(k * 1000, 1000, one) for k, one in enumerate(samples)])
    _write(path, len(samples), data, options)
    rename_entries(path, {1: kind})


def _write(path: Path, seconds: int, data: Extra, options: dict[str, object]) -> None:
    """Write a video of five frames a second; more would only take the pipeline longer."""
    base = Fraction(1, 5)
    write_video(path, 5 * seconds, base, rate=5, extras=[data], **options)  # type: ignore[arg-type]


def klv(key: bytes, kind: bytes, size: int, repeat: int, data: bytes) -> bytes:
    """Return an item of GoPro's format, GPMF."""
    return struct.pack(">4scBH", key, kind, size, repeat) + data + b"\0" * (-len(data) % 4)


def gopro(second: int, fix: int = 3) -> bytes:
    """Return a second of GoPro data: two points, with the time of the first."""
    points = b"".join(
        struct.pack(">5i", round(latitude(second + k / 2) * 1e7), 11 * 10**7, 519_000, 20_000, 2000)
        for k in (0, 1)
    )
    stream = (
        klv(b"GPSF", b"L", 4, 1, struct.pack(">I", fix))
        + klv(b"GPSU", b"U", 16, 1, b"2611251011%02d.000" % (12 + second))
        + klv(b"SCAL", b"l", 4, 5, struct.pack(">5i", 10**7, 10**7, 1000, 1000, 100))
        + klv(b"GPS5", b"l", 20, 2, points)
    )
    inner = klv(b"DVID", b"L", 4, 1, struct.pack(">I", 1)) + klv(
        b"STRM", b"\0", 1, len(stream), stream
    )
    return klv(b"DEVC", b"\0", 1, len(inner), inner)


def camm(second: int) -> bytes:
    """Return a sample of type 6 in Google's format."""
    since_1980 = UTC + second - 315_964_800 + 18
    return struct.pack(
        "<HHdidd7f", 0, 6, since_1980, 3, latitude(second), 11.0, 519.0, 1, 1, 0, 20, 0, 0.5
    )


def gpx(seconds: Sequence[float]) -> str:
    """Return a GPX document with a point at each second."""
    points = "".join(
        f'<trkpt lat="{latitude(s)}" lon="11"><ele>519</ele>'
        f"<time>{format_moment(UTC + s)}</time></trkpt>"
        for s in seconds
    )
    return (
        '<?xml version="1.0"?><gpx version="1.1" creator="t"'
        f' xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{points}</trkseg></trk></gpx>'
    )


def sentence(text: str) -> str:
    """Return an NMEA sentence with its check sum."""
    total = 0
    for byte in text.encode():
        total ^= byte
    return f"${text}*{total:02X}"


def rmc(second: int, status: str = "A") -> str:
    minutes = 60 * STEP * second
    return sentence(
        f"GPRMC,1011{12 + second:02}.00,{status},48{minutes:08.5f},N,01100.00000,E,"
        f"{20 * 3600 / 1852:.4f},0.0,251126,,,A"
    )
