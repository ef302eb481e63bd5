"""Choose a video track: some cameras write front and rear into one file."""

from __future__ import annotations

import av
from av.container import InputContainer
from av.stream import Disposition

from squeezedrive.pipeline.core.errors import SourceError


def video_tracks(container: InputContainer) -> list[av.VideoStream]:
    """Return the video tracks, without pictures that are attached, such as a cover."""
    tracks = container.streams.video
    return [track for track in tracks if not track.disposition & Disposition.attached_pic]


def count_tracks(spec: str) -> int:
    """Return how many video tracks a file has; 0 if it is none or cannot be read."""
    try:
        with av.open(f"file:{spec}", metadata_errors="replace") as container:
            return len(video_tracks(container))
    except (OSError, av.FFmpegError):
        return 0


def choose_track(container: InputContainer, index: int | None, name: str) -> av.VideoStream:
    """Return the video track of this index, or for None the one that players show.

    Raises
    ------
    SourceError
        If there is none, with the `name` of the source.
    """
    tracks = video_tracks(container)
    if index is not None and 0 < len(tracks) <= index:
        raise SourceError(
            f"{name}: expected a track index below {len(tracks)}, got {index}; it has"
            f" {_listed(tracks)}"
        )
    best = container.streams.best("video")
    if not tracks or (index is None and best not in tracks):
        raise SourceError(f"{name}: has no video track")
    return tracks[tracks.index(best) if index is None else index]  # type: ignore[arg-type]


def describe_choice(container: InputContainer, chosen: av.VideoStream) -> str | None:
    """Return a line on which of several video tracks is read; None if there is only one."""
    tracks = video_tracks(container)
    if len(tracks) < 2:
        return None
    return (
        f"has {len(tracks)} video tracks, {_listed(tracks)}; read is track"
        f" {tracks.index(chosen)}, --track-index N reads another"
    )


def _listed(tracks: list[av.VideoStream]) -> str:
    parts = []
    for index, track in enumerate(tracks):
        context = track.codec_context
        what = "unknown" if context is None else f"{context.name} {context.width}x{context.height}"
        parts.append(f"{index}: {what}")
    return ", ".join(parts)
