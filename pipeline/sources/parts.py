"""Divides a video file into parts that can be read alone, with the frames of the whole."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import av

from squeezedrive.pipeline.core.source import DEFAULT_FPS, SourceOptions, VideoPart
from squeezedrive.pipeline.sources.clock import read_clock
from squeezedrive.pipeline.sources.decoder import ONE_PICTURE_PER_PACKET, Decoder

SHORTEST = 0.5  # of the asked length: a last part that is shorter belongs to the one before
IDR = 5  # type of a unit of H.264
INTRA_PICTURES = range(16, 22)  # types of units of H.265: IDR, CRA and BLA
START_CODE = b"\x00\x00\x01"


@dataclass(frozen=True)
class PartPlan:
    """How a file is divided.

    Attributes
    ----------
    parts : tuple of VideoPart
        None or at least two.
    reason : str
        Why a file that is long enough has no parts; "" else.
    """

    parts: tuple[VideoPart, ...] = ()
    reason: str = ""


def plan_parts(location: str, options: SourceOptions, seconds: float) -> PartPlan:
    """Divide a file at key frames into parts of at least so many seconds.

    The file is read once, without decoding it, to count its frames. It is divided only where the
    parts are sure to have the frames of the whole, with the same numbers and times: at key frames
    that no later picture looks behind, if each packet is a picture with a time of its own.

    Parameters
    ----------
    location : str
        Path of the file.
    options : SourceOptions
        How the parts will be opened; `start` and `part` are not looked at.
    seconds : float
        Length of a part.

    Raises
    ------
    SourceError
        If there is no video in it that can be read.
    """
    options = replace(options, start=0.0, part=None)
    decoder = Decoder(location, options)
    try:
        clock = read_clock(decoder, location, options)
        if clock.live or decoder.is_pipe or (clock.end is not None and clock.end <= seconds):
            return PartPlan()
        if clock.untimed:
            return PartPlan(reason="it has no timestamps")
        codec = decoder.stream.codec_context.name
        if codec not in ONE_PICTURE_PER_PACKET:
            return PartPlan(reason=f"its codec is {codec}, expected H.264 or H.265")
        first = next(decoder.frames(), None)
        if not isinstance(first, av.VideoFrame) or first.interlaced_frame:
            return PartPlan(reason="it is interlaced, or begins with a damaged frame")
    finally:
        decoder.close()
    decoder = Decoder(location, options)
    try:
        decoder.mend_clock(1 / (clock.fps or DEFAULT_FPS))
        return _divide(decoder, Fraction(seconds) / clock.time_base)
    finally:
        decoder.close()


def _divide(decoder: Decoder, length: Fraction) -> PartPlan:
    """Read all packets of a file and find the parts; `length` is in units of its pts."""
    extradata = decoder.stream.codec_context.extradata or b""
    codec = decoder.stream.codec_context.name
    times: list[int] = []
    begins: list[int] = []  # pts of the first frames of parts
    for packet in decoder.packets():  # in the order of decoding
        if packet.is_discard:
            continue
        if packet.pts is None:
            return PartPlan(reason="some of its frames have no timestamp")
        times.append(packet.pts)
        far = not begins or packet.pts - begins[-1] >= length
        if far and packet.is_keyframe and is_entry(bytes(packet), codec, extradata):
            begins.append(packet.pts)
    times_in_order = sorted(times)
    if not begins or not times[0] == times_in_order[0] == begins[0]:
        return PartPlan(reason="it does not begin with a key frame")
    if decoder.has_jumped:
        return PartPlan(reason="its clock jumps")
    if any(a == b for a, b in pairwise(times_in_order)):
        return PartPlan(reason="some of its frames have the same timestamp")
    if len(begins) > 1 and times_in_order[-1] - begins[-1] < length * Fraction(SHORTEST):
        begins.pop()
    if len(begins) == 1:
        is_long = times_in_order[-1] - begins[0] >= length * 2
        return PartPlan(reason="no key frame is such that decoding can begin there" * is_long)
    numbers = [bisect_left(times_in_order, begin) for begin in begins]
    numbers.append(len(times))
    ends = [*begins[1:], None]
    return PartPlan(
        tuple(
            VideoPart(k + 1, len(begins), begin, ends[k], numbers[k], numbers[k + 1] - numbers[k])
            for k, begin in enumerate(begins)
        )
    )


def is_entry(data: bytes, codec: str, extradata: bytes) -> bool:
    """Return whether no picture that is shown after a key frame needs one from before it.

    That of H.264 has to be an IDR picture: of others the stream does not say so in a way that is
    quick to read, and cameras that refresh pictures bit by bit call some of them key frames.

    Parameters
    ----------
    data : bytes
        The packet.
    codec : str
        "h264" or "hevc".
    extradata : bytes
        Of the stream, which says how units are separated: by their lengths, or by start codes.
    """
    for first in _first_bytes(data, codec, extradata):
        if codec == "h264" and first & 31 in range(1, IDR + 1):
            return first & 31 == IDR
        if codec == "hevc" and first >> 1 & 63 < 32:
            return first >> 1 & 63 in INTRA_PICTURES
    return False


def _first_bytes(data: bytes, codec: str, extradata: bytes) -> list[int]:
    """Return the first byte of each unit of a packet."""
    found = []
    if extradata[:1] == b"\x01":  # of MP4 and Matroska
        width = (extradata[4 if codec == "h264" else 21] & 3) + 1
        at = 0
        while at + width < len(data):
            found.append(data[at + width])
            at += width + int.from_bytes(data[at : at + width], "big")
        return found
    at = data.find(START_CODE)
    while 0 <= at < len(data) - len(START_CODE):
        found.append(data[at + len(START_CODE)])
        at = data.find(START_CODE, at + len(START_CODE))
    return found
