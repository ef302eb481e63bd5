"""Damaged videos and pictures in several containers and codecs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.mutate import damaged_one_of
from tests.fuzz.targets.base import Target, seed_files

VIDEO_OPTIONS = (
    ("-o", "out/o.mp4", "--jsonl", "out/o.jsonl"),
    ("--no-video", "--jsonl", "out/o.jsonl", "--track"),
    ("-o", "out/o.mp4", "--start", "0.2", "--frames", "3"),
    ("-o", "out/o.mp4", "--track-index", "1", "--csv", "out/o.csv"),
    ("-o", "out/o.mp4", "--segment", "1", "--jsonl", "out/o.jsonl", "--detect-every", "2"),
    ("-o", "out/o.mp4", "--event", "car>=1", "--summary", "out/s.json"),
)
PICTURE_OPTIONS = (
    ("--no-video", "--jsonl", "out/o.jsonl"),
    ("-o", "out/o.mp4", "--kitti", "out/kitti"),
    ("--no-video", "--coco", "out/coco.json", "--fps", "3"),
)


@contextmanager
def without_network() -> Iterator[None]:
    """Replace the network by a fake, because it would only make the runs slower."""
    from squeezedrive.engines.model.weights import load_weights
    from squeezedrive.pipeline.app import files, network, session
    from tests.support.fakes import FakeBackend

    with (
        mock.patch.object(session, "open_network", side_effect=lambda *_: FakeBackend()),
        mock.patch.object(files, "open_network", side_effect=lambda *_: FakeBackend()),
        mock.patch.object(network, "load_weights", cache(load_weights)),
    ):
        yield


def run_program(case: Case) -> int:
    """Run the program with the arguments of a case."""
    from squeezedrive.pipeline.app.command_line import main

    return main(list(case.arguments))


def media(names: Sequence[str], options: Sequence[tuple[str, ...]]) -> st.SearchStrategy[Case]:
    """Return a strategy for runs with a damaged copy of one of several seeds."""
    suffix = Path(names[0]).suffix
    contents = st.one_of(
        *[
            st.tuples(st.just(Path(name).suffix), damaged_one_of(seed_files(name)))
            for name in names
        ],
        st.tuples(st.just(suffix), damaged_one_of(seed_files(*names))),
    )
    return st.builds(
        lambda found, option: Case(
            (f"in/drive{found[0]}", *option, "--no-progress"), {f"drive{found[0]}": found[1]}
        ),
        contents,
        st.sampled_from(options),
    )


def _target(
    names: Sequence[str], share: int, quick: int, options: Sequence[tuple[str, ...]] = VIDEO_OPTIONS
) -> Target:
    return Target(partial(media, names, options), run_program, share, quick, without_network)


TARGETS = {
    "mp4": _target(("h264.mp4", "fragmented.mp4", "hevc.mp4"), 40, 30),
    "ts": _target(("h264.ts", "mpeg2.ts"), 30, 20),
    "mkv": _target(("h264.mkv", "vp9.webm"), 30, 20),
    "avi": _target(("mpeg4.avi", "mjpeg.avi"), 30, 20),
    "other": _target(("mpeg2.mpg", "vp8.ogg", "flv1.flv", "h263.3gp"), 20, 20),
    "jpeg": _target(("grey.jpg", "exif.jpg", "progressive.jpg"), 45, 40, PICTURE_OPTIONS),
    "png": _target(("alpha.png", "deep.png"), 35, 40, PICTURE_OPTIONS),
    "picture": _target(("a.bmp", "a.webp", "a.tif"), 30, 30, PICTURE_OPTIONS),
}
