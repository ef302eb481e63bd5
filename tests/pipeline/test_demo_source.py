"""The clip that comes with the program, as a file and as a loop."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.demo import CLIP, LOOPED
from squeezedrive.pipeline.sources.open import open_source
from tests.support.media import read_all, times

OPTIONS = SourceOptions()


def test_the_clip_has_the_documented_size_rate_and_length() -> None:
    assert CLIP.stat().st_size <= 4_000_000
    with av.open(str(CLIP)) as container:
        (video,), (audio,) = container.streams.video, container.streams.audio
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert 10 <= container.duration / av.time_base <= 20
        assert video.average_rate == 25


def test_the_clip_has_sound_and_its_outputs_go_to_the_current_folder() -> None:
    source = open_source("demo:", SourceOptions(source_id=3))
    info = source.info
    assert (info.name, info.kind, info.live, info.fps) == ("demo", "file", False, 25)
    assert (info.path, info.inputs, info.stem) == (CLIP, (CLIP,), Path("demo"))
    frames = [source.read() for _ in range(3)]
    source.close()
    assert [frame.seconds for frame in frames if frame] == [0, 0.04, 0.08]
    assert {frame.source_id for frame in frames if frame} == {3}
    assert not source.report.warnings


def test_the_clip_is_played_as_any_file(run: Any, tmp_path: Path) -> None:
    video, jsonl = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    code, _, err = run("demo:", "--start", "2", "-n", "10", "-o", video, "--jsonl", jsonl)
    assert code == 0, err
    assert times(video) == [Fraction(i, 25) for i in range(10)]
    lines = [json.loads(line) for line in jsonl.read_text().splitlines()]
    assert lines[0]["source"]["name"] == "demo"
    assert [line["frame"] for line in lines[1:]] == list(range(50, 60))
    with av.open(str(video)) as container:
        (audio,) = container.streams.audio
        heard = np.concatenate([f.to_ndarray().ravel() for f in container.decode(audio)])
    assert np.abs(heard).max() > 0.01


def test_the_shipped_network_finds_all_classes_in_it(run: Any, tmp_path: Path) -> None:
    jsonl = tmp_path / "out.jsonl"
    root = Path(__file__).resolve().parents[2]
    code, _, err = run("demo:", "-n", "1", "--no-video", "--jsonl", jsonl,
                       "--set", f"network={root / 'configs' / 'squeezedet.yaml'}")  # fmt: skip
    assert code == 0, err
    (line,) = [json.loads(line) for line in jsonl.read_text().splitlines()][1:]
    found = {detection["class"] for detection in line["detections"]}
    assert found == {"car", "pedestrian", "cyclist"}


def test_the_loop_repeats_and_owns_its_pixels() -> None:
    count = LOOPED + 5
    source = open_source(f"demo:loop,frames={count}", SourceOptions(source_id=3))
    info = source.info
    assert (info.kind, info.live, info.frames, info.fps) == ("demo", False, count, 25)
    assert (info.time_base, info.origin, info.path, info.stem) == (
        Fraction(1, 25), 0, None, Path("demo"),
    )  # fmt: skip
    first = source.read()
    assert first is not None
    before = first.image.copy()
    first.image[:] = 0  # as drawing does
    rest = read_all(source)
    assert [frame.pts for frame in rest] == list(range(1, count))
    assert [frame.frame_id for frame in rest] == list(range(1, count))
    assert {frame.source_id for frame in rest} == {3}
    assert rest[-1].seconds == float(Fraction(count - 1, 25))
    np.testing.assert_array_equal(rest[LOOPED - 1].image, before)  # frame LOOPED is frame 0
    np.testing.assert_array_equal(rest[LOOPED].image, rest[0].image)
    assert np.mean(rest[0].image != before) > 0.1
    clip = open_source("demo:", OPTIONS)
    for frame in rest[:3]:
        clip_frame = clip.read() if frame.pts > 1 else (clip.read(), clip.read())[1]
        assert clip_frame is not None
        np.testing.assert_array_equal(frame.image, clip_frame.image)
    clip.close()
    assert source.read() is None
    assert not source.report.warnings


def test_the_loop_never_ends_and_uses_bounded_memory() -> None:
    source = open_source("demo:loop", SourceOptions(start=1e6))
    assert source.info.frames is None
    assert source.info.origin == 25_000_000
    frame = source.read()
    assert frame is not None
    assert (frame.frame_id, frame.seconds) == (25_000_000, 1e6)
    assert frame.image.nbytes * LOOPED <= 600e6
    source.close()
    source.close()
    assert source.read() is None


def test_start_skips_frames_but_keeps_their_numbers() -> None:
    source = open_source("demo:loop,frames=40", SourceOptions(start=1.5))
    assert (source.info.origin, source.info.frames) == (38, 2)
    assert [(frame.frame_id, frame.pts) for frame in read_all(source)] == [(38, 38), (39, 39)]
    with pytest.raises(SourceError, match=r"40 frames is 1\.6 s long.*got 1\.6 s"):
        open_source("demo:loop,frames=40", SourceOptions(start=1.6))
    with pytest.raises(SourceError, match=r"demo\.mp4: expected a start before its end.*got 99 s"):
        open_source("demo:", SourceOptions(start=99))


@pytest.mark.parametrize(
    "spec",
    [
        "demo:size=640x360", "demo:frames=3", "demo:loop,", "demo:loop,frames",
        "demo:loop,frames=0", "demo:loop,frames=2.5", "demo:loop,frames=-1", "demo:loop,seed=1",
        "demo:Loop", "demo: loop",
    ],
)  # fmt: skip
def test_unknown_demo_names_are_refused(spec: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(spec, OPTIONS)
    message = str(caught.value)
    assert message.startswith(f"{spec}: expected demo:, demo:loop or demo:loop,frames=N")
    assert "\n" not in message
