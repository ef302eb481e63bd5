"""Make a clip or a data set of the rendered street: `python -m tests.street clip|data ...`."""

from __future__ import annotations

import argparse
import sys
from fractions import Fraction
from pathlib import Path

from squeezedrive.engines.errors import UserError
from tests.street.clip import write_clip
from tests.street.data import write_dataset
from tests.street.spec import StreetSpec, parse_street

EXAMPLES = """\
examples:
  python -m tests.street clip pipeline/sources/demo.mp4      the clip that is the source demo:
  python -m tests.street data OUT street:seed=101,seconds=20 street:seed=102 --every 97
"""

# A part in which most detections are right and all three classes are always in view.
DEMO = StreetSpec(fps=Fraction(25), frames=300, seed=3)
DEMO_FROM = 350  # number of the first frame
DEMO_CRF = 27


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.street",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    clip = verbs.add_parser("clip", help="write the clip of the source demo:")
    clip.add_argument("file", type=Path, metavar="FILE.mp4")
    data = verbs.add_parser("data", help="write frames with exact labels in KITTI layout")
    data.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    data.add_argument("streets", nargs="+", metavar="street:[KEY=VALUE,...]",
                      help="keys: size, fps, seconds or frames, seed")  # fmt: skip
    data.add_argument("--every", type=int, default=10, metavar="N", help="take each Nth frame (10)")
    data.add_argument("--frames", type=int, metavar="N", help="at most N frames of each street")
    arguments = parser.parse_args(argv)
    try:
        if arguments.verb == "clip":
            write_clip(arguments.file, DEMO, DEMO_FROM, crf=DEMO_CRF, preset="slow", sound=True)
            return 0
        streets = [parse_street(text) for text in arguments.streets]
        count = write_dataset(arguments.out, streets, arguments.every, arguments.frames)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {arguments.out}: {count} pictures with labels, split train")
    return 0


if __name__ == "__main__":
    sys.exit(main())
