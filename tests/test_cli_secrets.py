"""No output of the program shows a password from the address of a camera."""

import json
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.servers.process import Server
from tests.support.preview import until
from tests.support.program import start, wait_for_lines

LIVE = Path(__file__).resolve().parent.parent / "configs" / "live.yaml"
SECRET = "hunter2"
PAGES = ("/", "/status", "/health", "/metrics")


@pytest.fixture
def camera():
    server = Server("mjpeg", "--fps=20", f"--password={SECRET}")
    yield server
    server.kill()


def test_no_output_shows_the_password_of_a_camera(
    camera: Server, small_network: Path, tmp_path: Path
) -> None:
    """Check every file, log line and page, also after the camera has failed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    out = {name: tmp_path / f"ride.{name}" for name in ("jsonl", "csv", "mot", "coco", "cvat")}
    options = [part for name, path in out.items() for part in (f"--{name}", path)]
    process = start(
        f"{camera.url(user=f'me:{SECRET}@')}?token={SECRET}", "--config", LIVE,
        "-o", tmp_path / "ride.mp4", *options, "--summary", tmp_path / "summary.json",
        "--profile", tmp_path / "profile", "--event", "car>=1", "--track", "-t", "0.001",
        "--preview", str(port), "--set", f"preview.token={SECRET}", "--log-level", "debug",
        "--set", f"network={small_network}", "--no-progress",
    )  # fmt: skip
    try:
        wait_for_lines(process, out["jsonl"], 20)
        pages = [ask(port, path) for path in PAGES]
        assert json.loads(pages[1])["sources"][0]["name"].startswith("http://***@127.0.0.1:")
        camera.kill()
        assert until(lambda: '"reconnecting"' in ask(port, "/status"), 60)
        pages.append(ask(port, "/status"))
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, printed[1]
    assert "trying again" in printed[1]
    for text in (*pages, *printed):
        assert SECRET not in text
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 8
    for path in written:
        assert SECRET.encode() not in path.read_bytes(), path


def ask(port: int, path: str) -> str:
    """Return a page, or the text of the error that is sent instead."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {SECRET}"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as refused:  # /health while no picture comes
        with refused:
            return refused.read().decode()
