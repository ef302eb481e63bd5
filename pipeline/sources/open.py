"""Open the source that the user named."""

from __future__ import annotations

import os
from pathlib import Path

from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.source import Source, SourceOptions
from squeezedrive.pipeline.sources.names import CAMERA, IMAGE_SUFFIXES, STDIN, STREAM, redact
from squeezedrive.pipeline.sources.pipe import is_pipe


def open_source(spec: str, options: SourceOptions) -> Source:
    """Open the source that the user named.

    Parameters
    ----------
    spec : str
        A video file; an image, a folder of images or a pattern of their names; a camera as its
        number or `/dev/videoN`; the URL of a stream; a FIFO, or "-" for standard input; or "demo:"
        or "demo:loop" for the clip that comes with the program.
    options : SourceOptions
        How to open it.

    Raises
    ------
    SourceError
        If there is no such source or it cannot be read.
    SourceTimeout
        If a camera or stream does not answer in time.
    """
    # Each kind of source brings a library that only runs with it need.
    if spec.startswith("demo:"):
        from squeezedrive.pipeline.sources.demo import open_demo

        return open_demo(spec, options)
    if CAMERA.fullmatch(spec):
        from squeezedrive.pipeline.sources.camera import CameraSource

        return CameraSource(spec, options)
    try:
        return _open_path(spec, options)
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"{redact(spec)}: cannot be read: {error.strerror}") from error


def _open_path(spec: str, options: SourceOptions) -> Source:
    path = Path(spec)
    is_stream = STREAM.match(spec) is not None
    if not spec:
        raise SourceError("expected a source, got an empty name")
    if is_pipe(spec):
        if spec == STDIN and os.isatty(0):
            raise SourceError(
                "-: standard input is a terminal; send a video into it: PROGRAM | squeezedrive -"
            )
        return _open_video(spec, options)
    if spec == STDIN:
        path, spec = Path("/dev/stdin"), "/dev/stdin"
    if not is_stream and not path.exists():
        if "://" in spec:
            known = "rtsp://, rtsps://, http://, https://, udp://, rtp://, srt://, tcp://, rtmp://"
            raise SourceError(f"{redact(spec)}: unknown kind of stream, expected one of {known}")
        if not any(character in spec for character in "*?["):
            raise SourceError(f"{spec}: no such file or folder")
    if is_stream or (path.is_file() and path.suffix.lower() not in IMAGE_SUFFIXES):
        return _open_video(spec, options)
    from squeezedrive.pipeline.sources.images import ImageSource

    return ImageSource(spec, options)


def _open_video(spec: str, options: SourceOptions) -> Source:
    from squeezedrive.pipeline.sources.video import VideoSource

    return VideoSource(spec, options)
