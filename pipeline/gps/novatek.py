"""Read the GPS of cameras with NovaTek's processors, such as Viofo's: blocks among the pictures.

The box moov/gps has, after four bytes, the number of blocks, and of each where it begins in the
file and how many bytes it has, all 32 bits, big-endian. A block begins as a box of the type "free",
with "GPS " after it. Of the record in it, little-endian, there are two layouts, which differ in
where it begins, at byte 16 or 48 of the block:

    +0  hour, minute, second, year since 2000, month, day    6 x uint32, UTC
    +24 "A" if there is a fix, "N" or "S", "E" or "W", 0      4 bytes
    +28 latitude, longitude as DDMM.MMMM, speed in knots, course in degrees    4 x float32

Both as ExifTool has them (types "Novatek" and "ViofoA119v3" of QuickTimeStream.pl).
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import BinaryIO

import av

from squeezedrive.pipeline.core.boxes import inside, read_box, top_boxes
from squeezedrive.pipeline.core.gps import GpsFix, TimedFix

MAGIC = b"freeGPS "
PLACES = (48, 16)  # of a record in its block
RECORD = struct.Struct("<6I4s4f")
KNOT = 1852 / 3600  # metres a second
MAX_BLOCKS = 200_000  # two days, one a second
UNSURE = 2.0  # seconds by which the receiver's clock may be off the place of a block in the file


def read_novatek(path: Path) -> list[TimedFix]:
    """Return the fixes of a file, in seconds of its clock; empty for one without such blocks.

    A block belongs to the time of the picture before it in the file. That is right to a second or
    so; the receiver's clock is more exact, and its offset is the median over all blocks.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        blocks = list(_blocks(file))
        if not blocks:
            return []
        found = [(place, _fix_in(_read(file, place, size))) for place, size in blocks]
    pictures = _pictures(path)
    if not pictures:
        return []
    places = [place for place, _ in pictures]
    timed = []
    for place, fix in found:
        index = max(bisect_left(places, place) - 1, 0)
        timed.append((pictures[index][1], fix))
    ahead = [time - fix.utc for time, fix in timed if fix is not None and fix.utc is not None]
    lead = median(ahead) if ahead else 0.0
    fixes: list[TimedFix] = []
    for time, fix in timed:
        if fix is not None and fix.utc is not None and abs(fix.utc + lead - time) <= UNSURE:
            time = fix.utc + lead
        fixes.append((time, fix))
    return fixes


def _blocks(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield where each block begins, and its size."""
    for box in inside(file, top_boxes(file), b"moov", b"gps "):
        table = read_box(file, box)
        count = int.from_bytes(table[4:8], "big")
        entries = (len(table) - 8) // 8
        yield from struct.iter_unpack(">II", table[8 : 8 + 8 * min(count, entries, MAX_BLOCKS)])


def _read(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(place)
    block = file.read(min(size, PLACES[0] + RECORD.size))
    return block if block[4:12] == MAGIC else b""


def _fix_in(block: bytes) -> GpsFix | None:
    """Return the fix in a block; None if the receiver had none, or the block is of another kind."""
    for place in PLACES:
        if len(block) < place + RECORD.size:
            continue
        hour, minute, second, year, month, day, flags, lat, lon, speed, course = RECORD.unpack_from(
            block, place
        )
        if flags[:1] != b"A" or flags[1:2] not in b"NS" or flags[2:3] not in b"EW":
            continue
        if not all(map(math.isfinite, (lat, lon, speed, course))):
            return None
        try:
            year += 0 if year >= 2000 else 2000
            moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
        except (ValueError, OverflowError):
            return None
        fix = GpsFix(
            _degrees(lat) * (-1 if flags[1:2] == b"S" else 1),
            _degrees(lon) * (-1 if flags[2:3] == b"W" else 1),
            speed=speed * KNOT,
            course=course % 360,
            utc=moment.timestamp(),
        )
        return fix if fix.is_possible else None
    return None


def _degrees(value: float) -> float:
    """Return degrees of a number that has degrees and minutes, DDMM.MMMM."""
    whole = int(abs(value) // 100)
    return whole + (abs(value) - 100 * whole) / 60


def _pictures(path: Path) -> list[tuple[int, float]]:
    """Return place in the file and time of each picture, in the order of the file."""
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        stream = container.streams.best("video")
        if stream is None or stream.time_base is None:
            return []
        base = stream.time_base
        return sorted((entry.pos, float(entry.timestamp * base)) for entry in stream.index_entries)
