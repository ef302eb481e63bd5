"""Write detections as annotations in the format of COCO."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.sinks.files.jsonl import frame_record
from squeezedrive.pipeline.sinks.files.whole import WholeFile, check_regular
from squeezedrive.pipeline.sinks.spec import SinkContext, SinkSpec

if TYPE_CHECKING:
    from squeezedrive.pipeline.core.source import Source


class CocoSink(Sink):
    """One JSON document with images, annotations and categories, as cocodataset.org has them.

    An image is a frame: ``id`` is its number from 0, ``file_name`` what `file_name` returns, and
    ``pts`` its presentation time in seconds. An annotation has ``id`` (from 1), ``image_id``,
    ``category_id`` (from 1, in the order of the names), ``bbox`` ([x, y, width, height] in pixels
    of the source), ``area``, ``iscrowd`` (0), ``score`` and, if objects are followed, ``track_id``,
    the number of the object. Numbers are those of the JSON lines, see `frame_record`.

    The document is there when it is finished, or not at all, see `WholeFile`. Until then, 32 bytes
    of each frame are in memory.

    Parameters
    ----------
    path : str or Path
        File to write, replaced if it exists.
    source : str
        Name of the source.
    class_names : sequence of str
        Names in the order of the class indices.
    file_name : callable
        What the picture of a frame is called, by its number; six digits, ``000042.jpg``, if not
        given.

    Raises
    ------
    SinkError
        From `write` and `close`, if the file cannot be created or written.
    """

    def __init__(
        self,
        path: str | Path,
        source: str,
        class_names: Sequence[str],
        file_name: Callable[[int], str] = "{:06d}.jpg".format,
    ) -> None:
        self._file = WholeFile(path)
        self.name = self._file.name
        self._source = source
        self._class_names = list(class_names)
        self._numbers = {name: k for k, name in enumerate(class_names, 1)}
        self._file_name = file_name
        self._images = array("d")  # of each frame: number, pts, width, height
        self._annotations = 0

    def write(self, result: FrameResult) -> None:
        """Add the annotations of one frame."""
        text = "" if self._file.is_open else self._beginning()
        record = frame_record(result, self._class_names)
        for found in record["detections"]:
            x1, y1, x2, y2 = found["box"]
            width, height = round(x2 - x1, 2), round(y2 - y1, 2)
            self._annotations += 1
            annotation = {
                "id": self._annotations,
                "image_id": record["frame"],
                "category_id": self._numbers[found["class"]],
                "bbox": [x1, y1, width, height],
                "area": round(width * height, 2),
                "iscrowd": 0,
                "score": found["score"],
            }
            if "id" in found:
                annotation["track_id"] = found["id"]
            text += _line(annotation, self._annotations == 1)
        self._file.append(text)
        self._images.extend(record[key] for key in ("frame", "pts", "width", "height"))

    def close(self) -> None:
        """Add the images and put the document in its place."""
        if not self._file.is_open:
            return
        self._file.append('\n],"images":[')
        values = iter(self._images)
        for place, (frame, pts, width, height) in enumerate(zip(*[values] * 4, strict=True)):
            image = {
                "id": int(frame),
                "file_name": self._file_name(int(frame)),
                "width": int(width),
                "height": int(height),
                "pts": pts,
            }
            self._file.append(_line(image, place == 0))
        self._file.finish("\n]}\n")

    def _beginning(self) -> str:
        info = {"description": f"What SqueezeDrive found in {self._source}"}
        categories = [{"id": k, "name": name} for name, k in self._numbers.items()]
        return f'{{"info":{_text(info)},"categories":{_text(categories)},"annotations":['


def _text(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def _line(content: dict[str, Any], first: bool) -> str:
    return f"{'' if first else ','}\n{_text(content)}"


def _file_names(source: Source) -> Callable[[int], str]:
    """Return what calls a frame as its picture is called, if it comes from one."""
    files = source.info.inputs if source.info.kind == "images" else ()
    pictures = {path.stem: path.name for path in files}

    def file_name(frame: int) -> str:
        stem = source.stem(frame)
        return pictures.get(stem, f"{stem}.jpg")

    return file_name


def _open(context: SinkContext) -> Sink:
    source = context.source
    return CocoSink(context.path, source.info.name, context.class_names, _file_names(source))


SPEC = SinkSpec(
    option="coco",
    metavar="OUT.json",
    help="detections as COCO annotations; written at the end",
    open=_open,
    check=check_regular,
)
