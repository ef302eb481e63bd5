"""Live sources that read from real servers on the loopback interface, which fail."""

from __future__ import annotations

import contextlib
import itertools
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from squeezedrive.pipeline.core.errors import SourceError, SourceTimeout
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.open import open_source
from squeezedrive.pipeline.sources.reconnect import Backoff, ReconnectingSource
from tests.servers.clock import age, moment_of
from tests.servers.faults import fault
from tests.servers.process import Server, rtsp_missing
from tests.servers.proxy import Proxy
from tests.support.media import read_all

OPTIONS = SourceOptions(open_timeout=10.0, read_timeout=3.0)
DEADLINE = 60.0  # seconds; long enough for busy machines


@pytest.fixture(params=["rtsp", "mjpeg"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "rtsp" and rtsp_missing():
        pytest.skip(rtsp_missing())
    return str(request.param)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def server_of(stack: contextlib.ExitStack, kind: str, *options: str) -> Server:
    server = Server(kind, *options)
    stack.callback(server.kill)
    return server


def source_of(stack: contextlib.ExitStack, url: str) -> ReconnectingSource:
    source = ReconnectingSource(
        url, lambda: open_source(url, OPTIONS), limit=None, backoff=Backoff(0.1, 0.5)
    )
    stack.callback(source.close)
    return source


def read_until(source: ReconnectingSource, done: Callable[[Frame], bool]) -> list[Frame]:
    frames: list[Frame] = []
    deadline = time.monotonic() + DEADLINE
    while not frames or not done(frames[-1]):
        frame = source.read()
        assert frame is not None
        frames.append(frame)
        assert time.monotonic() < deadline
    return frames


def fresh(frame: Frame, since: float) -> bool:
    """Return whether a picture was made after `since`, a time of `time.monotonic`."""
    return time.monotonic() - age(frame.image) > since


def test_frames_go_on_after_faults(
    kind: str, stack: contextlib.ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "squeezedrive")
    server = server_of(stack, kind, "--password=word")
    proxy = Proxy(server.port)
    stack.callback(proxy.close)
    source = source_of(stack, server.url(proxy.port, "me:word@"))
    frames = read_until(source, lambda frame: age(frame.image) < 0.3)
    assert (source.info.width, source.info.height) == (320, 240)
    for name, seconds, reconnects in [
        ("connection cut", 0.0, True),
        ("server killed", 0.2, True),
        ("server frozen", 4.0, True),
        ("network silent", 1.2, False),
        ("bytes garbled", 0.3, None),  # the source may not notice it
        ("connections refused", 0.3, True),
    ]:
        caplog.clear()
        before, count = frames[-1], source.state.reconnects
        with fault(name, server, proxy, seconds) as outage:
            frames += read_until(
                source, lambda frame: outage.over_at is not None and fresh(frame, outage.over_at)
            )
        frames += read_until(source, lambda frame: age(frame.image) < 0.3)
        lines = [record.getMessage() for record in caplog.records]
        state = source.state
        assert state.condition == "connected", name
        if reconnects is not None:
            assert (state.reconnects > count) == reconnects, (name, lines)
        if reconnects:
            lost = next(k for k, line in enumerate(lines) if line.endswith("; trying again"))
            assert any("connected again after" in line for line in lines[lost:]), lines
        if seconds > 1:
            assert any("no picture for" in line for line in lines), lines
        wall = (moment_of(frames[-1].image) - moment_of(before.image)) / 1000
        assert frames[-1].seconds - before.seconds == pytest.approx(wall, abs=1.5), name
        assert "word" not in "".join(lines)
    for one, other in itertools.pairwise(frames):
        assert other.pts > one.pts
        assert other.frame_id > one.frame_id
        assert other.time_base == one.time_base
    assert "word" not in f"{source.state} {source.report} {source.info}"


def test_a_camera_that_comes_back_with_another_size_and_rate(
    kind: str, stack: contextlib.ExitStack
) -> None:
    server = server_of(stack, kind)
    source = source_of(stack, server.url())
    frames = read_until(source, lambda frame: True)
    server.kill()
    server.start("--size=640x480", "--fps=10")
    frames += read_until(source, lambda frame: frame.image.shape == (480, 640, 3))
    frames += [source.read() for _ in range(5)]  # type: ignore[misc]
    assert source.info.width == 320
    pts = [frame.pts for frame in frames]
    assert pts == sorted(set(pts))
    steps = [(b.seconds - a.seconds) for a, b in itertools.pairwise(frames[-5:])]
    assert sum(steps) / len(steps) == pytest.approx(0.1, abs=0.08)


def test_a_wrong_password_is_an_error_that_does_not_show_it(
    kind: str, stack: contextlib.ExitStack
) -> None:
    server = server_of(stack, kind, "--password=word")
    url = server.url(user="me:wrong@")
    with pytest.raises(SourceError, match=r"\*\*\*@127\.0\.0\.1:\d+/cam: .*401") as error:
        open_source(url, OPTIONS)
    assert "wrong" not in str(error.value)


def test_pictures_over_http_have_the_time_of_their_arrival(stack: contextlib.ExitStack) -> None:
    server = server_of(stack, "mjpeg", "--fps=10")
    source = open_source(server.url(), OPTIONS)
    stack.callback(source.close)
    info = source.info
    assert (info.kind, info.live, info.fps) == ("stream", True, None)
    frames = [source.read() for _ in range(8)]
    assert None not in frames
    assert info.origin == frames[0].pts  # type: ignore[union-attr]
    for frame in frames:
        assert frame is not None
        assert frame.seconds == pytest.approx(frame.captured_at, abs=1e-5)
    assert source.report.warnings == []


def test_undecodable_pictures_count_as_no_picture(stack: contextlib.ExitStack) -> None:
    server = server_of(stack, "mjpeg", "--good=3")
    source = open_source(server.url(), SourceOptions(open_timeout=0.6, read_timeout=0.4))
    stack.callback(source.close)
    expected = "sends data, but no picture could be decoded for 1 s"
    with pytest.raises(SourceTimeout, match=expected):
        read_all(source)
    assert source.report.skipped["corrupt"] > 3


def test_a_process_ends_at_once_though_a_read_is_stuck(
    kind: str, stack: contextlib.ExitStack, tmp_path: Path
) -> None:
    """Check that a thread left behind in FFmpeg neither keeps the process alive nor crashes it."""
    server = server_of(stack, kind)
    script = tmp_path / "reader.py"
    script.write_text(
        "import signal, sys\n"
        "from squeezedrive.pipeline.sources.open import open_source\n"
        "from squeezedrive.pipeline.core.source import SourceOptions\n"
        "from squeezedrive.pipeline.sources.reconnect import ReconnectingSource\n"
        "url = sys.argv[1]\n"
        "options = SourceOptions(read_timeout=180.0)\n"
        "source = ReconnectingSource(url, lambda: open_source(url, options), None)\n"
        "signal.signal(signal.SIGTERM, lambda *_: source.interrupt())\n"
        "while source.read() is not None:\n"
        "    print('frame', flush=True)\n"
        "source.close()\n"
        "print('end', flush=True)\n"
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, str(script), server.url()], cwd=root, env={"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    stack.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == "frame\n"
    server.freeze()
    time.sleep(1.0)  # until the reader is stuck
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=DEADLINE)  # a third of the read time-out
    assert process.returncode == 0, err
    assert out.endswith("end\n")
