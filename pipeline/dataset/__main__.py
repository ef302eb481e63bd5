"""Make a data set to train on: `python -m pipeline.dataset OUT SOURCE...`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from squeezedrive.engines.errors import DatasetError
from squeezedrive.engines.program import ProgramParser, exit_code, run_program
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.dataset.labels import labels_of_teacher
from squeezedrive.pipeline.dataset.layout import LabelledPicture, write_kitti_layout
from squeezedrive.pipeline.dataset.teacher import Teacher
from squeezedrive.pipeline.sources.open import open_source
from squeezedrive.pipeline.sources.pipe import is_pipe

EXAMPLES = """\
examples:
  python -m pipeline.dataset drives drive1.mp4 drive2.mp4 --teacher pvb2003.xml --every 25
  python -m engines train --data drives --out runs/first

The teacher is an OpenVINO model of vehicles, persons and two-wheelers such as
person-vehicle-bike-detection-2003 of the Open Model Zoo.
"""


def main(argv: list[str] | None = None) -> int:
    """Make the data set; return the exit code: 0, 2 for wrong input, 130 if interrupted."""
    arguments = _parse(argv)
    return exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    try:
        count = make_dataset(
            arguments.out,
            arguments.sources,
            Teacher(arguments.teacher, arguments.tiles),
            arguments.every,
            arguments.frames,
            arguments.start,
            arguments.until,
        )
    except KeyboardInterrupt:
        print(f"interrupted; {arguments.out} holds the frames labelled so far", file=sys.stderr)
        return 130
    print(f"wrote {arguments.out}: {count} pictures with labels, split train")
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ProgramParser(
        prog="python -m pipeline.dataset",
        description="Take frames from footage, label them with a teacher, write them in KITTI"
        " layout.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="as for run_pipeline.py")
    parser.add_argument(
        "--teacher", type=Path, required=True, metavar="FILE.xml", help="labels the frames"
    )
    parser.add_argument(
        "--no-tiles", dest="tiles", action="store_false",
        help="show the teacher whole pictures only: 2 to 10 times as fast, misses small objects",
    )  # fmt: skip
    parser.add_argument("--every", type=int, default=10, metavar="N", help="one frame in N (10)")
    parser.add_argument(
        "--frames", type=int, metavar="N", help="take at most N frames of each source"
    )
    parser.add_argument(
        "--start", type=float, default=0.0, metavar="SECONDS", help="skip this much of each source"
    )
    parser.add_argument("--until", type=float, metavar="SECONDS", help="stop here in each source")
    return parser.parse_args(argv)


def make_dataset(
    out: Path,
    sources: list[str],
    teacher: Teacher,
    every: int = 1,
    frames: int | None = None,
    start: float = 0.0,
    until: float | None = None,
) -> int:
    """Write frames and their labels in KITTI layout, split "train"; return their number.

    One frame in `every` is taken of each source, from its second `start` to `until`, `frames` at
    most. Pictures are named by source and frame.

    Raises
    ------
    UserError
        If a number makes no sense, a source cannot be read, no frame is in the time asked for, or
        the folder cannot be written.
    """
    _check_numbers(every, frames, start, until)
    for spec in sources:  # before hours are spent on the sources before a wrong one
        if not is_pipe(spec):  # which can be opened only once
            open_source(spec, SourceOptions(start=start)).close()

    def pictures() -> Iterator[LabelledPicture]:
        for number, spec in enumerate(sources):
            labelled = _labelled(f"{number:02d}", spec, teacher, every, start, until)
            yield from islice(labelled, frames)

    count = write_kitti_layout(out, pictures())
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


def _labelled(
    prefix: str, spec: str, teacher: Teacher, every: int, start: float, until: float | None
) -> Iterator[LabelledPicture]:
    source = open_source(spec, SourceOptions(start=start))
    origin = source.info.origin * source.info.time_base - start
    try:
        while (frame := source.read()) is not None:
            if until is not None and frame.seconds - origin > until:
                return
            if frame.frame_id % every == 0:
                labels = labels_of_teacher(teacher.detect(frame.image))
                yield f"{prefix}_{frame.frame_id:06d}", frame.image, labels
    finally:
        source.close()


if __name__ == "__main__":
    run_program(main)
