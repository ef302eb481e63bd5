"""Write the positions of a recording as a GPX track."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.sinks.files.lines import LineFile
from squeezedrive.pipeline.sinks.spec import SinkContext, SinkSpec

if TYPE_CHECKING:
    from squeezedrive.pipeline.config import Config
    from squeezedrive.pipeline.core.gps import GpsFix, GpsTrack, TimedFix
    from squeezedrive.pipeline.core.source import SourceInfo

HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<gpx version="1.1" creator="SqueezeDrive" xmlns="http://www.topografix.com/GPX/1/1"
 xmlns:gpxtpx="http://www.garmin.com/xmlschemas/TrackPointExtension/v2">
<trk>
"""
TAIL = "</trk>\n</gpx>\n"
SPARSE = 0.999  # seconds between the points of a track that is made of frames


class GpxSink(Sink):
    """The fixes of a source from the first frame to the last, as GPX 1.1.

    Points are those of the receiver, not those between them; speed and course are in Garmin's
    extension for track points, version 2. Where the receiver had no fix, a new segment begins.
    Results that were read again have no such track: then there is a point a second of those of
    their frames.

    Parameters
    ----------
    path : str or Path
        File to write, replaced if it exists; "-" for standard output.
    track : GpsTrack or None
        Of the source; None to take the positions of the frames.

    Raises
    ------
    SinkError
        From `write` and `close`, if the file cannot be created or written.
    """

    def __init__(self, path: str | Path, track: GpsTrack | None) -> None:
        self._lines = LineFile(path)
        self.name = self._lines.name
        self._track = track
        self._written: float | None = None  # up to when, in seconds of the source's clock
        self._point_at = float("-inf")
        self._in_segment = False

    def write(self, result: FrameResult) -> None:
        """Add the points up to one frame."""
        text = "" if self._lines.is_open else HEAD
        for time, fix in self._fixes(result):
            if fix is None or time - self._point_at > _longest_gap():
                text += self._end()
            if fix is not None:
                text += "" if self._in_segment else "<trkseg>\n"
                self._in_segment = True
                self._point_at = time
                text += _point(fix)
        if text:
            self._lines.append(text)

    def close(self) -> None:
        """Finish the document; standard output stays open."""
        if self._lines.is_open:
            self._lines.append(self._end() + TAIL)
        self._lines.close()

    def _fixes(self, result: FrameResult) -> Iterator[TimedFix]:
        seconds = result.frame.seconds
        if self._track is not None:
            begin = seconds if self._written is None else self._written
            yield from self._track.span(begin, seconds + 1e-6)
            self._written = max(begin, seconds + 1e-6)
        elif result.frame.gps is None or seconds - self._point_at >= SPARSE:
            yield seconds, result.frame.gps

    def _end(self) -> str:
        ended, self._in_segment = self._in_segment, False
        return "</trkseg>\n" if ended else ""


def _longest_gap() -> float:
    from squeezedrive.pipeline.core.gps import LONGEST_GAP

    return LONGEST_GAP


def _point(fix: GpsFix) -> str:
    said = fix.record()
    parts = [f'<trkpt lat="{said["lat"]:.7f}" lon="{said["lon"]:.7f}">']
    if fix.altitude is not None:
        parts.append(f"<ele>{said['alt']}</ele>")
    if fix.utc is not None:
        parts.append(f"<time>{said['utc']}</time>")
    extra = [
        f"<gpxtpx:{name}>{said[name]}</gpxtpx:{name}>"
        for name in ("speed", "course")
        if said[name] is not None
    ]
    if extra:
        inner = "".join(extra)
        parts.append(
            "<extensions><gpxtpx:TrackPointExtension>"
            f"{inner}</gpxtpx:TrackPointExtension></extensions>"
        )
    return "".join(parts) + "</trkpt>\n"


def _open(context: SinkContext) -> Sink:
    return GpxSink(context.path, context.source.gps)


def _accompanies(info: SourceInfo, config: Config) -> bool:
    return bool(info.gps) and config.video.write and config.record.segment is None


SPEC = SinkSpec(
    option="gpx",
    metavar="OUT.gpx",
    help="where it was, if the source has GPS (default: beside the video); - for stdout",
    open=_open,
    stdout=True,
    companion=".gpx",
    accompanies=_accompanies,
)
