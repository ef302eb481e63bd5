from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.config import VideoConfig
from squeezedrive.pipeline.core.errors import SourceError, SourceTimeout
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sinks.recordings.recorder import RecordingSink
from squeezedrive.pipeline.sources.open import open_source
from tests.support.media import number_of, packets, read_all, write_video

PATIENT = SourceOptions(open_timeout=60.0, read_timeout=60.0)


@pytest.fixture
def serve() -> Iterator[Callable[[bytes, bool], int]]:
    """Serve bytes to one client over TCP, then hang up or send nothing; a call returns the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()
    threads = []

    def answer(data: bytes, hang_up: bool) -> None:
        client, _ = listener.accept()
        with client:
            try:
                client.sendall(data)
            except OSError:  # the client closed the connection
                return
            if not hang_up:
                done.wait(100)

    def start(data: bytes, hang_up: bool) -> int:
        thread = threading.Thread(target=answer, args=(data, hang_up), daemon=True)
        thread.start()
        threads.append(thread)
        return int(listener.getsockname()[1])

    yield start
    done.set()
    for thread in threads:
        thread.join(5)
    listener.close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Serve a folder over HTTP."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(5)


def clip(tmp_path: Path) -> bytes:
    path = tmp_path / "a.ts"
    write_video(path, range(100, 150), options={"g": "10"})
    return path.read_bytes()


def test_a_stream_ends_when_the_sender_hangs_up(
    tmp_path: Path, serve: Callable[[bytes, bool], int]
) -> None:
    source = open_source(f"tcp://127.0.0.1:{serve(clip(tmp_path), True)}", PATIENT)
    frames = read_all(source)
    assert [number_of(f.image) for f in frames] == list(range(50))
    info = source.info
    assert (info.kind, info.live, info.path, info.frames) == ("stream", True, None, None)
    assert info.origin == frames[0].pts
    assert (info.width, info.height) == (160, 120)
    assert source.report.warnings == []


def test_a_leaping_stream_clock_is_corrected(
    tmp_path: Path, serve: Callable[[bytes, bool], int]
) -> None:
    path = tmp_path / "a.ts"
    write_video(path, [*range(10), *range(180_000, 180_010)], options={"g": "5"})
    source = open_source(f"tcp://127.0.0.1:{serve(path.read_bytes(), True)}", PATIENT)
    seconds = [frame.seconds for frame in read_all(source)]
    assert len(seconds) == 20
    assert seconds == sorted(set(seconds))
    assert seconds[-1] - seconds[0] < 60  # the leap of two hours is removed
    assert source.report.warnings == [
        "time leaps ahead at frame 10, mended; the same may follow without a message"
    ]


def test_a_silent_stream_times_out(tmp_path: Path, serve: Callable[[bytes, bool], int]) -> None:
    port = serve(clip(tmp_path), False)
    options = SourceOptions(open_timeout=60.0, read_timeout=1.0)
    with pytest.raises(SourceTimeout, match=r"tcp://\*\*\*@127\.0\.0\.1:\d+: no answer within 1 s"):
        read_all(open_source(f"tcp://me:word@127.0.0.1:{port}", options))


def test_a_server_that_never_answers_times_out(serve: Callable[[bytes, bool], int]) -> None:
    port = serve(b"", False)
    options = SourceOptions(open_timeout=1.0, read_timeout=60.0)
    with pytest.raises(SourceTimeout, match=r"rtsp://\*\*\*@127\.0\.0\.1:\d+/cam: no answer") as e:
        open_source(f"rtsp://me:word@127.0.0.1:{port}/cam", options)
    assert "word" not in str(e.value)


def test_a_refused_connection_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceError, match=r"\*\*\*@127\.0\.0\.1:\d+/cam: Connection refused") as e:
        open_source(f"rtsp://me:word@127.0.0.1:{port}/cam", PATIENT)
    assert "word" not in str(e.value)
    assert not isinstance(e.value, TimeoutError)


def test_a_file_on_a_web_server_is_read_like_a_file(tmp_path: Path, web: str) -> None:
    write_video(tmp_path / "a.mp4", 30, muxer={"movflags": "faststart"})
    source = open_source(f"{web}/a.mp4?token=word", PATIENT)
    info = source.info
    assert (info.kind, info.live, info.path, info.frames) == ("file", False, None, 30)
    assert info.name == f"{web}/a.mp4?token=***"
    assert [number_of(f.image) for f in read_all(source)] == list(range(30))


def test_a_missing_page_is_an_error(web: str) -> None:
    with pytest.raises(SourceError, match="404 Not Found"):
        open_source(f"{web}/missing.mp4", PATIENT)


@pytest.fixture
def send(tmp_path: Path) -> Iterator[Callable[[str, str], None]]:
    """Send a clip to an address again and again, as a camera does; the call returns at once."""
    done = threading.Event()
    threads = []
    clip(tmp_path)

    def loop(url: str, format: str) -> None:
        with av.open(url, "w", format=format) as out, av.open(str(tmp_path / "a.ts")) as read:
            stream = out.add_stream_from_template(read.streams.video[0])
            packets = [packet for packet in read.demux(video=0) if packet.size]
            assert stream.time_base is not None
            length = round(len(packets) / 25 / packets[0].time_base)
            while not done.is_set():
                for packet in packets:
                    packet.stream = stream
                    out.mux(packet)
                    packet.pts, packet.dts = packet.pts + length, packet.dts + length
                    done.wait(0.01)

    def start(url: str, format: str) -> None:
        thread = threading.Thread(target=loop, args=(url, format), daemon=True)
        thread.start()
        threads.append(thread)

    yield start
    done.set()
    for thread in threads:
        thread.join(5)


@pytest.mark.parametrize(("kind", "format"), [("udp", "mpegts"), ("rtp", "rtp_mpegts")])
def test_streams_without_a_connection_are_read(
    send: Callable[[str, str], None], kind: str, format: str
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1] // 2 * 2  # RTP uses even ports
    url = f"{kind}://127.0.0.1:{port}"
    send(f"{url}?pkt_size=1316" if kind == "udp" else url, format)
    source = open_source(url, PATIENT)
    try:
        frames = [source.read() for _ in range(60)]
    finally:
        source.close()
    assert (source.info.kind, source.info.live) == ("stream", True)
    numbers = [number_of(frame.image) for frame in frames if frame is not None]
    assert len(numbers) == 60
    assert set(numbers) <= set(range(50))
    assert len(set(numbers)) > 20


def test_srt_works_or_names_the_missing_ffmpeg_feature() -> None:
    with pytest.raises(SourceError) as e:
        open_source("srt://me:word@127.0.0.1:9", SourceOptions(open_timeout=1.0))
    assert "word" not in str(e.value)
    known = ("another FFmpeg can read it: ffmpeg -i URL", "no answer within", "error", "refused")
    assert any(part in str(e.value) for part in known)


def test_sound_of_a_file_on_a_web_server_is_kept(tmp_path: Path, web: str, run: Any) -> None:
    write_video(
        tmp_path / "a.mp4", 30, size=(320, 192), audio="aac", muxer={"movflags": "faststart"}
    )
    out = tmp_path / "out.mp4"
    code, _, err = run(f"{web}/a.mp4", "-o", out)
    assert code == 0, err
    assert "warning" not in err
    same = [bytes(packet) for packet in packets(tmp_path / "a.mp4", "audio")]
    assert [bytes(packet) for packet in packets(out, "audio")] == same


def test_start_keeps_sound_if_the_server_sends_whole_files(
    tmp_path: Path, web: str, run: Any
) -> None:
    write_video(
        tmp_path / "a.mp4", 50, size=(320, 192), audio="aac", muxer={"movflags": "faststart"}
    )
    sound = []
    for source in (tmp_path / "a.mp4", f"{web}/a.mp4"):
        out = tmp_path / "out.mp4"
        code, _, err = run(source, "--start", "1", "-o", out, "--overwrite")
        assert (code, "warning" in err) == (0, False), err
        sound.append([(packet.pts, bytes(packet)) for packet in packets(out, "audio")])
    assert sound[0] == sound[1] != []


def test_refused_sound_keeps_the_picture_and_hides_the_password(tmp_path: Path, web: str) -> None:
    write_video(tmp_path / "a.mp4", 30, audio="aac", muxer={"movflags": "faststart"})
    source = open_source(f"{web.replace('://', '://me:word@')}/a.mp4?token=word", PATIENT)
    (tmp_path / "a.mp4").unlink()
    out = tmp_path / "out.mp4"
    sink = RecordingSink(source, VideoConfig(preset="ultrafast"), out)
    while (frame := source.read()) is not None:
        sink.write(FrameResult(frame, Detections.empty()))
    sink.close()
    source.close()
    assert len(packets(out, "video")) == 30
    assert len(sink.warnings) == 1
    assert "***@127.0.0.1" in sink.warnings[0]
    assert "audio cannot be read: Server returned 404 Not Found" in sink.warnings[0]
    assert "word" not in sink.warnings[0] + repr(source.info)
