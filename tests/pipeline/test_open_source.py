from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.names import redact
from squeezedrive.pipeline.sources.open import open_source
from tests.support.media import picture, write_video

OPTIONS = SourceOptions()


def test_the_name_decides_the_kind_of_source(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 3)
    write_video(tmp_path / "clip[1].mp4", 3)  # a file whose name looks like a pattern
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.JPG"), picture(0))
    for spec, kind in (
        (tmp_path / "a.mp4", "file"),
        (tmp_path / "clip[1].mp4", "file"),
        (folder, "images"),
        (folder / "*.JPG", "images"),
        (folder / "1.JPG", "images"),
    ):
        source = open_source(str(spec), OPTIONS)
        assert source.info.kind == kind
        assert source.info.name == str(spec)
        source.close()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("missing.mp4", "missing.mp4: no such file or folder"),
        ("missing/", "missing/: no such file or folder"),
        ("missing/*.png", "missing/*.png: pattern matches no images"),
        ("ftp://me:word@host/a.mp4", "ftp://***@host/a.mp4: unknown kind of stream"),
        ("/dev/video99", "camera /dev/video99: cannot be opened"),
        ("97", "camera 97: cannot be opened"),
    ],
)
def test_names_that_cannot_be_opened_are_errors(spec: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(spec, OPTIONS)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://host:554/cam", "rtsp://host:554/cam"),
        ("rtsp://me:word@host:554/cam", "rtsp://***@host:554/cam"),
        ("rtsp://me:w@rd@host/cam", "rtsp://***@host/cam"),
        ("rtsp://me:wo/rd@host/cam", "rtsp://***@host/cam"),
        ("rtsp://me@host/cam", "rtsp://***@host/cam"),
        ("http://host/a?x=1&token=word&y=2", "http://host/a?x=1&token=***&y=2"),
        ("http://host/a?Password=word", "http://host/a?Password=***"),
        ("http://host/a?access_key=word#t", "http://host/a?access_key=***#t"),
        (
            "cannot open rtsp://me:word@host/cam: refused",
            "cannot open rtsp://***@host/cam: refused",
        ),
        ("me@host.mp4", "me@host.mp4"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert redact(url) == shown
    assert "word@" not in redact(url)
