"""GPS in the subtitles of MP4 files: sentences of receivers, NMEA 0183, that some cameras write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError
from av.stream import Discard

from squeezedrive.pipeline.core.gps import TimedFix
from squeezedrive.pipeline.gps.nmea import parse_nmea

SENTENCE = re.compile(r"\$[A-Z]{2}RMC,")
# Two numbers beside each other that can be a latitude and a longitude: 48.13715, 11.57612.
PLACE = re.compile(r"[-+]?\b\d{1,2}\.\d{4,}°?\s*[NS]?[,;/ ]+[A-Za-z:=]*\s*[-+]?\d{1,3}\.\d{4,}")
SEARCHED = 20  # texts among which the first sentence has to be


class OtherText(Exception):
    """Subtitles have positions in a layout of their own."""


def read_text_tracks(path: Path) -> list[TimedFix]:
    """Return the fixes in the subtitles of an MP4 file, in seconds of its clock; empty if none.

    A fix is from the time at which its text is shown.

    Raises
    ------
    OtherText
        If there are positions which are not in NMEA.
    OSError
        If the file cannot be read.
    """
    fixes: list[TimedFix] = []
    found = False
    for number, (shown, text) in enumerate(_texts(path)):
        if SENTENCE.search(text) is None:
            if not found and PLACE.search(text):
                raise OtherText
            if not found and number >= SEARCHED:
                break
            continue
        found = True
        read = parse_nmea(text.splitlines())
        times = [fix.utc for _, fix in read if fix is not None and fix.utc is not None]
        if not times:
            fixes.append((shown, None))
        for fix in (fix for _, fix in read if fix is not None and fix.utc is not None):
            fixes.append((shown + (fix.utc or 0) - times[0], fix))
    return fixes


def _texts(path: Path) -> Iterator[tuple[float, str]]:
    """Yield when each text is shown, and the text."""
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            tracks = container.streams.subtitles
            for stream in container.streams:
                stream.discard = Discard.default if stream in tracks else Discard.all
            for packet in container.demux(*tracks) if tracks else ():
                stamp = packet.dts if packet.pts is None else packet.pts
                if stamp is not None and packet.size > 2:
                    data = bytes(packet)  # its length, the text, and its style
                    length = int.from_bytes(data[:2], "big")
                    text = data[2 : 2 + length].decode(errors="replace")
                    yield float(stamp * (packet.time_base or Fraction(1))), text
    except FFmpegError:  # whoever reads the pictures will see it as well
        return
