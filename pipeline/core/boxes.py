"""Read the boxes of an MP4 or QuickTime file (ISO/IEC 14496-12) that FFmpeg does not report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

LARGEST_READ = 2**20  # bytes of a box that is read whole


@dataclass(frozen=True)
class Mp4Box:
    """A box: its type, and where in the file its content lies."""

    kind: bytes
    begin: int
    end: int


@dataclass(frozen=True)
class SampleEntry:
    """The sample entry of a track, which names the kind of its samples.

    Attributes
    ----------
    track_id : int
        The track.
    offset : int
        Where in the file the entry begins.
    data : bytes
        The entry, with its size and its type.
    """

    track_id: int
    offset: int
    data: bytes

    @property
    def kind(self) -> bytes:
        """Its type, such as b"gpmd"."""
        return self.data[4:8]


def boxes(file: BinaryIO, begin: int, end: int) -> Iterator[Mp4Box]:
    """Yield the boxes between two places of a file, up to the first that is not valid."""
    while end - begin >= 8:
        file.seek(begin)
        head = file.read(16)
        size, kind, used = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:  # a 64-bit size follows
            size, used = int.from_bytes(head[8:], "big"), 16
        elif size == 0:  # up to the end
            size = end - begin
        if size < used or size > end - begin or len(head) < used:
            return
        yield Mp4Box(kind, begin + used, begin + size)
        begin += size


def top_boxes(file: BinaryIO) -> Iterator[Mp4Box]:
    """Yield the boxes of a file, from its beginning; none for another format."""
    return boxes(file, 0, file.seek(0, os.SEEK_END))


def inside(file: BinaryIO, outer: Iterator[Mp4Box], *path: bytes) -> Iterator[Mp4Box]:
    """Yield the boxes at the end of `path`: each type lies in a box of the type before it."""
    for box in outer:
        if box.kind == path[0]:
            if len(path) == 1:
                yield box
            else:
                yield from inside(file, boxes(file, box.begin, box.end), *path[1:])


def read_box(file: BinaryIO, box: Mp4Box) -> bytes:
    """Return the content of a box, `LARGEST_READ` bytes at most."""
    file.seek(box.begin)
    return file.read(min(box.end - box.begin, LARGEST_READ))


def sample_entries(path: Path) -> list[SampleEntry]:
    """Return the sample entry of each track in the order of the file; none for another format.

    A track with several gets an empty one.
    """
    found = []
    with path.open("rb") as file:
        for track in inside(file, top_boxes(file), b"moov", b"trak"):
            content = list(boxes(file, track.begin, track.end))
            head = b"".join(read_box(file, b) for b in inside(file, iter(content), b"tkhd"))
            place = 20 if head[:1] == b"\1" else 12
            number, offset, data = int.from_bytes(head[place : place + 4], "big"), 0, b""
            for table in inside(file, iter(content), b"mdia", b"minf", b"stbl", b"stsd"):
                entries = list(boxes(file, table.begin + 8, table.end))
                if len(entries) == 1:
                    offset = table.begin + 8
                    file.seek(offset)
                    data = file.read(min(table.end - offset, LARGEST_READ))
            found.append(SampleEntry(number, offset, data))
    return found


def rename_entries(path: Path, kinds: Mapping[int, bytes]) -> None:
    """Change the types of sample entries in the file; `kinds` has them by the track's index."""
    entries = sample_entries(path)
    with path.open("r+b") as file:
        for place, kind in kinds.items():
            file.seek(entries[place].offset + 4)
            file.write(kind)
