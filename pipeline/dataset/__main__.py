"""Make a data set to train on: `python -m pipeline.dataset OUT SOURCE...`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import cv2

from squeezedrive.engines.errors import DatasetError, UserError
from squeezedrive.pipeline.core.frame import Image
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.dataset.labels import KittiLabel, labels_of_scene, labels_of_teacher
from squeezedrive.pipeline.sources import open_source
from tests.street.spec import PREFIX, parse_scene
from tests.street.street import Street

EXAMPLES = """\
examples:
  python -m pipeline.dataset street scene:seed=3 scene:seed=4 --every 20 --frames 100
  python -m pipeline.dataset drives drive1.mp4 drive2.mp4 --teacher yolox-nano-nofocus.param
  python -m engines train --data drives --data street --out runs/first
"""

QUALITY = 92  # of the JPEG files

Labeller = Callable[[Image], list[KittiLabel]]
Picture = tuple[int, Image, list[KittiLabel]]
"""Number of the frame, its pixels and what is in it."""


def main(argv: list[str] | None = None) -> int:
    """Make the data set; return the exit code: 0, 2 for wrong input, 130 if interrupted."""
    arguments = _parse(argv)
    try:
        count = make_dataset(
            arguments.out,
            arguments.sources,
            arguments.teacher,
            arguments.every,
            arguments.frames,
            arguments.start,
            arguments.until,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; {arguments.out} holds what was labelled until now", file=sys.stderr)
        return 130
    print(f"wrote {arguments.out}: {count} pictures with labels, split train")
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.dataset",
        description="Take frames from footage, label them with a teacher, write them in KITTI"
        " layout. Rendered scenes bring their labels with them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="as for run_pipeline.py")
    parser.add_argument(
        "--teacher", type=Path, metavar="FILE.param", help="YOLOX in ncnn format, without focus"
    )
    parser.add_argument("--every", type=int, default=10, metavar="N", help="each Nth frame (10)")
    parser.add_argument("--frames", type=int, metavar="N", help="at most so many of a source")
    parser.add_argument(
        "--start", type=float, default=0.0, metavar="SECONDS", help="begin so late in a source"
    )
    parser.add_argument(
        "--until", type=float, metavar="SECONDS", help="take nothing later from a source"
    )
    return parser.parse_args(argv)


def make_dataset(
    out: Path,
    sources: list[str],
    teacher: Path | None,
    every: int = 1,
    frames: int | None = None,
    start: float = 0.0,
    until: float | None = None,
) -> int:
    """Write frames and their labels in KITTI layout, split "train"; return how many.

    The list of the split grows with every picture: if this ends early, what is there is usable.

    Parameters
    ----------
    out : Path
        Folder to be made.
    sources : list of str
        As `pipeline.sources.open_source` takes them. Pictures are named by source and frame.
    teacher : Path or None
        Network of the teacher; scenes need none.
    every : int
        Distance of the frames taken.
    frames : int or None
        Most frames of one source.
    start, until : float
        Seconds of a source's time before and after which nothing is taken.

    Raises
    ------
    UserError
        If a number makes no sense, a source cannot be read, there is no teacher for it, no frame
        is in the time asked for, or the folder cannot be written.
    """
    _check_numbers(every, frames, start, until)
    if teacher is None and not all(map(_is_scene, sources)):
        raise DatasetError("footage has no labels: name a teacher, --teacher FILE.param")
    label = _teach(teacher) if teacher is not None else None
    for spec in sources:  # before hours are spent on those ahead of a wrong one
        _check_source(spec, start)
    pictures, labels, lists = out / "training/image_2", out / "training/label_2", out / "ImageSets"
    count = 0
    try:
        for folder in (pictures, labels, lists):
            folder.mkdir(parents=True)
        with (lists / "train.txt").open("w", encoding="utf-8", buffering=1) as split:
            for number, spec in enumerate(sources):
                if _is_scene(spec):
                    found = _rendered(spec, every, start, until)
                else:
                    assert label is not None
                    found = _labelled(spec, label, every, start, until)
                for index, image, entries in islice(found, frames):
                    name = f"{number:02d}_{index:06d}"
                    text = "".join(entry.line() for entry in entries)
                    _write_picture(pictures / f"{name}.jpg", image)
                    (labels / f"{name}.txt").write_text(text, encoding="utf-8")
                    split.write(f"{name}\n")
                    count += 1
    except FileExistsError:
        raise DatasetError(f"{out}: exists already, expected a new folder") from None
    except UserError:
        raise
    except OSError as error:
        raise DatasetError(f"{out}: cannot be written: {error.strerror}") from None
    if not count:
        raise DatasetError(f"{out}: stays empty, no frame lies between --start and --until")
    return count


def _check_numbers(every: int, frames: int | None, start: float, until: float | None) -> None:
    if every < 1:
        raise DatasetError(f"--every: expected 1 or more, got {every}")
    if frames is not None and frames < 1:
        raise DatasetError(f"--frames: expected 1 or more, got {frames}")
    if not 0 <= start < math.inf:
        raise DatasetError(f"--start: expected seconds, 0 or more, got {start:g}")
    if until is not None and not until >= start:
        raise DatasetError(f"--until: expected seconds, not before --start, got {until:g}")


def _check_source(spec: str, start: float) -> None:
    if _is_scene(spec):
        parse_scene(spec)
    else:
        open_source(spec, SourceOptions(start=start)).close()


def _is_scene(spec: str) -> bool:
    return spec.startswith(PREFIX)


def _labelled(
    spec: str, label: Labeller, every: int, start: float, until: float | None
) -> Iterator[Picture]:
    source = open_source(spec, SourceOptions(start=start))
    origin = source.info.origin * source.info.time_base - start
    try:
        while (frame := source.read()) is not None:
            if until is not None and frame.seconds - origin > until:
                return
            if frame.frame_id % every == 0:
                yield frame.frame_id, frame.image, label(frame.image)
    finally:
        source.close()


def _rendered(spec: str, every: int, start: float, until: float | None) -> Iterator[Picture]:
    """Yield frames of a scene; unlike footage it need not be gone through frame by frame."""
    scene = parse_scene(spec)
    street = Street(scene)
    for index in range(0, scene.frames, every):
        if until is not None and index / scene.fps > until:
            return
        if index / scene.fps < start:
            continue
        yield index, street.render(index), labels_of_scene(street.truth(index))


def _teach(param: Path) -> Labeller:
    from squeezedrive.pipeline.dataset.teacher import Teacher  # ncnn is only needed here

    teacher = Teacher(param)
    return lambda image: labels_of_teacher(teacher.detect(image))


def _write_picture(path: Path, image: Image) -> None:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    path.write_bytes(encoded.tobytes())


if __name__ == "__main__":
    sys.exit(main())
