"""Write objects in the XML that CVAT (cvat.ai) exports and imports as "CVAT for video 1.1"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.sinks.files.jsonl import frame_record
from squeezedrive.pipeline.sinks.files.whole import WholeFile, check_regular
from squeezedrive.pipeline.sinks.spec import SinkContext, SinkSpec

RETURNS = 5.0  # seconds after which no object comes back; the tracker forgets after 2
LONGEST = 100_000  # boxes of one track, an hour at 28 frames a second, that are kept in memory
NO_XML = re.compile(
    r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)  # XML 1.0, production 2


@dataclass
class CvatTrack:
    """An object on its way through the video.

    Attributes
    ----------
    number : int
        Its number.
    label : str
        Name of its class.
    boxes : list of str
        The elements written of it.
    corners : list of float
        Its last box.
    gone : float or None
        Since when it is not seen, in seconds; None while it is.
    """

    number: int
    label: str
    boxes: list[str] = field(default_factory=list)
    corners: list[float] = field(default_factory=list)
    gone: float | None = None

    def add(self, frame: int, outside: bool) -> None:
        """Add its last box, or that from this frame on it is not there."""
        x1, y1, x2, y2 = self.corners
        self.boxes.append(
            f'    <box frame="{frame}" outside="{outside:d}" occluded="0" keyframe="1"'
            f' xtl="{x1:.2f}" ytl="{y1:.2f}" xbr="{x2:.2f}" ybr="{y2:.2f}" z_order="0"/>\n'
        )

    def element(self) -> str:
        """Return it as XML."""
        head = f'  <track id="{self.number}" label={quoteattr(_valid(self.label))} source="auto">\n'
        return head + "".join(self.boxes) + "  </track>\n"


class CvatSink(Sink):
    """One XML document with a track per followed object.

    A track has the number of the object, its class and a box, in pixels of the source with 2
    decimals, for each frame it is seen in; frames are counted from 0. In the first frame in which
    it is not seen it is outside, which ends what CVAT shows. Where nothing is followed, each
    detection is a track of one frame with a number of its own, from 0. Scores have no place in the
    format.

    The document is there when it is finished, or not at all, see `WholeFile`. Until an object is
    gone for `RETURNS` seconds, its boxes are in memory; a track of more than `LONGEST` boxes goes
    on as another.

    Parameters
    ----------
    path : str or Path
        File to write, replaced if it exists.
    source : str
        Name of the source.
    class_names : sequence of str
        Names in the order of the class indices.

    Raises
    ------
    SinkError
        From `write` and `close`, if the file cannot be created or written.
    """

    def __init__(self, path: str | Path, source: str, class_names: Sequence[str]) -> None:
        self._file = WholeFile(path)
        self.name = self._file.name
        self._source = source
        self._class_names = list(class_names)
        self._tracks: dict[tuple[int, str], CvatTrack] = {}
        self._counter = count()

    def write(self, result: FrameResult) -> None:
        """Add the boxes of one frame."""
        record = frame_record(result, self._class_names)
        frame, seconds = record["frame"], record["pts"]
        text = "" if self._file.is_open else self._beginning(record)
        seen = set()
        for found in record["detections"]:
            number = found["id"] if "id" in found else next(self._counter)
            key = number, found["class"]
            seen.add(key)
            track = self._tracks.get(key)
            if track is not None and len(track.boxes) >= LONGEST:
                track.add(frame, outside=True)
                text += track.element()
                track = None
            if track is None:
                track = self._tracks[key] = CvatTrack(*key)
            track.corners, track.gone = found["box"], None
            track.add(frame, outside=False)
        for key in [key for key in self._tracks if key not in seen]:
            track = self._tracks[key]
            if track.gone is None:
                track.add(frame, outside=True)
                track.gone = seconds
            if result.ids is None or abs(seconds - track.gone) > RETURNS:
                text += self._tracks.pop(key).element()
        self._file.append(text)

    def close(self) -> None:
        """Add the tracks that go to the end and put the document in its place."""
        if not self._file.is_open:
            return
        for track in self._tracks.values():
            self._file.append(track.element())
        self._tracks.clear()
        self._file.finish("</annotations>\n")

    def _beginning(self, record: dict[str, Any]) -> str:
        labels = "".join(
            f"<label><name>{escape(_valid(name))}</name><attributes/></label>"
            for name in self._class_names
        )
        return (
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
            f"  <meta><task><name>{escape(_valid(self._source))}</name><mode>interpolation</mode>"
            f"<labels>{labels}</labels><original_size><width>{record['width']}</width>"
            f"<height>{record['height']}</height></original_size></task></meta>\n"
        )


def _valid(name: str) -> str:
    """Return a name with a ? for each character that XML cannot have."""
    return NO_XML.sub("?", name)


def _open(context: SinkContext) -> Sink:
    return CvatSink(context.path, context.source.info.name, context.class_names)


SPEC = SinkSpec(
    option="cvat",
    metavar="OUT.xml",
    help="objects as CVAT for video has them; written at the end",
    open=_open,
    check=check_regular,
)
