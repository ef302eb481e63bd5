"""Recognise sources by their names, and hide passwords in them."""

from __future__ import annotations

import re

from squeezedrive.engines.files import readable
from squeezedrive.pipeline.core.source import SourceKind

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
STREAM = re.compile(r"(rtsps?|https?|udp|rtp|srt|tcp|rtmps?)://", re.IGNORECASE)
STDIN = "-"
CAMERA = re.compile(r"(/dev/video)?\d+")

_USER = re.compile(r"(?<=://)[^/\s]*@")
_USER_WITH_SLASH = re.compile(r"(?<=://)[^/\s:@]+:(?!\d+/)\S*@")
_SECRET = re.compile(
    r"([?&][^=&\s]*(?:token|pass|pwd|secret|key|auth|sig|credential)[^=&\s]*=)[^&#\s]*",
    re.IGNORECASE,
)


def live_kind(spec: str) -> SourceKind | None:
    """Return the kind of a live source by its name; None for all others.

    A file on a web server looks like a stream until it is opened.
    """
    if CAMERA.fullmatch(spec):
        return "camera"
    return "stream" if STREAM.match(spec) else None


def shown(spec: str) -> str:
    """Return the name of a video in messages and results."""
    return "standard input" if spec == STDIN else readable(redact(spec))


def redact(text: str) -> str:
    """Return the text with user names, passwords and tokens in its URLs replaced by "***"."""
    for pattern in (_USER, _USER_WITH_SLASH):
        text = pattern.sub("***@", text)
    return _SECRET.sub(r"\1***", text)
