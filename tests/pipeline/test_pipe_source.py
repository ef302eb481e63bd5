"""Video through pipes: standard input, FIFOs and process substitution, <(...)."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezedrive.engines.backends.video_decoder import DecoderRefused
from squeezedrive.engines.errors import ConfigError
from squeezedrive.pipeline.app.outputs import Outputs
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.profiling.sweep import sweep
from squeezedrive.pipeline.sources.open import open_source
from tests.support.media import damage, number_of, read_all, write_video

ROOT = Path(__file__).parents[2]
OPTIONS = SourceOptions(open_timeout=0.2, read_timeout=0.2)  # for networks, not for pipes

Feed = Callable[..., str]


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Feed]:
    """Return a function that makes a FIFO and fills it, with a pause before and in the middle."""
    threads = []

    def start(content: bytes, pause: float = 0.0, name: str = "pipe.ts") -> str:
        path = tmp_path / name
        os.mkfifo(path)

        def write() -> None:
            time.sleep(pause)
            with path.open("wb", buffering=0) as file:
                middle = len(content) // 2
                try:
                    file.write(content[:middle])
                    time.sleep(pause)
                    file.write(content[middle:])
                except BrokenPipeError:  # the reader closed the FIFO early
                    pass

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        threads.append(thread)
        return str(path)

    yield start
    for thread in threads:
        thread.join(10)


def clip(path: Path, frames: int = 50, **options: object) -> bytes:
    write_video(path, frames, **options)  # type: ignore[arg-type]
    return path.read_bytes()


@pytest.mark.parametrize(("name", "muxer"), [("a.ts", None), ("a.mkv", None), ("a.avi", None),
                                             ("a.mp4", {"movflags": "faststart"}),
                                             ("a.h264", None)])  # fmt: skip
@pytest.mark.parametrize("pause", [0.0, 0.6])
def test_a_fifo_is_read_like_a_file(
    tmp_path: Path, fifo: Feed, name: str, muxer: dict[str, str] | None, pause: float
) -> None:
    spec = fifo(clip(tmp_path / name, muxer=muxer), pause)
    source = open_source(spec, OPTIONS)
    info = source.info
    assert (info.kind, info.live, info.path, info.location) == ("file", False, None, None)
    assert (info.inputs, info.stem) == ((), tmp_path / "pipe")
    with pytest.raises(DecoderRefused, match="comes through a pipe"):
        source.on_device(None)  # type: ignore[arg-type]
    assert [number_of(f.image) for f in read_all(source)] == list(range(50))
    assert [line for line in source.report.warnings if "timestamps" not in line] == []


def test_start_works_in_a_pipe(tmp_path: Path, fifo: Feed) -> None:
    spec = fifo(clip(tmp_path / "a.ts", options={"g": "10"}))
    source = open_source(spec, SourceOptions(start=1.0))
    assert [number_of(f.image) for f in read_all(source)] == list(range(25, 50))


def test_damage_in_a_pipe_loses_only_the_damaged_frames(tmp_path: Path, fifo: Feed) -> None:
    clip(tmp_path / "a.ts", options={"g": "1"})
    damage(tmp_path / "a.ts", 48)
    source = open_source(fifo((tmp_path / "a.ts").read_bytes()), OPTIONS)
    numbers = [number_of(f.image) for f in read_all(source)]
    assert len(numbers) + source.report.skipped["corrupt"] >= 49
    assert set(range(45)) <= set(numbers)


def test_warns_that_the_sound_of_a_pipe_is_left_out(tmp_path: Path, fifo: Feed) -> None:
    source = open_source(fifo(clip(tmp_path / "a.mkv", audio="aac")), OPTIONS)
    assert len(read_all(source)) == 50
    assert any("its sound is left out" in line for line in source.report.warnings)


def test_an_mp4_with_its_index_at_the_end_is_refused_from_a_pipe(
    tmp_path: Path, fifo: Feed
) -> None:
    rng = np.random.default_rng(0)

    def noise(_: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        return rng.integers(0, 256, (size[1], size[0], 3), np.uint8)

    with pytest.raises(SourceError, match="an MP4 with its index at the end"):
        open_source(fifo(clip(tmp_path / "a.mp4", draw=noise)), OPTIONS)


def test_waiting_for_a_pipe_can_be_interrupted(tmp_path: Path, fifo: Feed) -> None:
    source = open_source(fifo(clip(tmp_path / "a.ts")[:-5000] * 2, 1.0), OPTIONS)
    ends = threading.Timer(0.2, source.interrupt)
    ends.start()
    began = time.monotonic()
    frames = read_all(source)
    assert len(frames) < 100
    assert time.monotonic() - began < 30
    ends.join()


def program(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    script = (
        "import sys\n"
        "from squeezedrive.pipeline.core.source import SourceOptions\n"
        "from squeezedrive.pipeline.core.errors import SourceError\n"
        "from squeezedrive.pipeline.sources.open import open_source\n"
        "try: source = open_source(sys.argv[1], SourceOptions())\n"
        "except SourceError as error: sys.exit(str(error))\n"
        "count = 0\n"
        "while source.read() is not None: count += 1\n"
        "print(count, source.info.name, source.info.stem, source.info.path)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT, text=True, capture_output=True, timeout=100, **options,
    )  # type: ignore[call-overload,no-any-return]  # fmt: skip


def test_reads_standard_input(tmp_path: Path) -> None:
    clip(tmp_path / "a.ts", 12)
    for spec, name, stem in (
        ("-", "standard input", "stdin"),
        ("/dev/stdin", "/dev/stdin", "stdin"),
    ):
        with subprocess.Popen(["cat", tmp_path / "a.ts"], stdout=subprocess.PIPE) as cat:
            piped = program(spec, stdin=cat.stdout)
        assert piped.stdout == f"12 {name} {stem} None\n", piped.stderr
        with (tmp_path / "a.ts").open("rb") as file:
            redirected = program(spec, stdin=file)
        assert redirected.stdout == "12 /dev/stdin stdin /dev/stdin\n", redirected.stderr
    substituted = subprocess.run(
        ["bash", "-c", f'exec "$0" -c "$1" <(cat {tmp_path}/a.ts)', sys.executable,
         "import os, sys; from squeezedrive.pipeline.sources.pipe import Pipe, is_pipe\n"
         "assert is_pipe(sys.argv[1]); pipe = Pipe(sys.argv[1]); size = 0\n"
         "while data := pipe.read(1000): size += len(data)\n"
         "print(size)"],
        cwd=ROOT, text=True, capture_output=True, timeout=100,
    )  # fmt: skip
    assert substituted.stdout == f"{(tmp_path / 'a.ts').stat().st_size}\n", substituted.stderr


def test_empty_standard_input_is_an_error() -> None:
    nothing = program("-", stdin=subprocess.DEVNULL)
    assert "standard input: expected a video, found nothing" in nothing.stderr
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" <&-', sys.executable,
         "from squeezedrive.pipeline.core.source import SourceOptions\n"
         "from squeezedrive.pipeline.sources.open import open_source\n"
         "open_source('-', SourceOptions())\n"],
        cwd=ROOT, text=True, capture_output=True, timeout=100,
    )  # fmt: skip
    assert "SourceError: /dev/stdin: no such file or folder" in closed.stderr


def test_a_sweep_refuses_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="a pipe can be read once"):
        sweep(str(tmp_path / "pipe"), None, [], ["cpu.streams=1,2"], Outputs(profile=tmp_path))
