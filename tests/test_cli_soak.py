"""A short version of `tests.benchmarks.soak`: threads and file handles left after faults."""

import contextlib
import json
import signal
import socket
import time
import urllib.request
from pathlib import Path

from tests.benchmarks.soak import check_files, usage
from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.support.preview import until
from tests.support.program import start, wait_for_lines

LIVE = Path(__file__).resolve().parent.parent / "configs" / "live.yaml"
ROUNDS = 4
CROWD = 40


def test_faults_leave_no_threads_or_file_handles(small_network: Path, tmp_path: Path) -> None:
    """Cut a connection and open a crowd of clients that never read, several times."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    camera = Server("mjpeg", "--fps=20")
    proxy = Proxy(camera.port)
    tracks = tmp_path / "ride.txt"
    process = start(
        camera.url(proxy.port), "--config", LIVE, "-o", tmp_path / "ride.mp4", "--segment", "2",
        "--event", "car>=1", "--mot", tracks, "--preview", str(port), "--no-progress",
        "-t", "0.001", "--set", f"network={small_network}",
    )  # fmt: skip
    try:
        wait_for_lines(process, tracks, 20)
        levels = []
        for number in range(1, ROUNDS + 1):
            proxy.cut()
            with contextlib.ExitStack() as clients:
                for _ in range(CROWD):
                    client = socket.create_connection(("127.0.0.1", port), timeout=10)
                    clients.enter_context(client)
                    client.sendall(b"GET /pictures/0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert until(lambda back=number: reconnects(port) == back, 60)
            levels.append(settled(process.pid))
        # One handle more is not a leak: segments and clips begin and end in the meantime.
        assert levels[-1][0] <= levels[0][0] + 1, levels
        assert levels[-1][1] <= levels[0][1] + 1, levels
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        proxy.close()
        camera.kill()
    assert process.returncode == 0, err
    assert err.count("connected again") == ROUNDS
    assert "all readable" in check_files(tmp_path)


def reconnects(port: int) -> int | None:
    """Return how often the camera was reconnected, or None while the page refuses connections."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
            return int(json.load(answer)["sources"][0]["reconnects"])
    except OSError:  # 503 or a reset, until the page notices that the crowd has left
        return None


def settled(pid: int) -> tuple[int, int]:
    """Return the numbers of threads and file handles once neither has fallen for a second."""
    _, threads, handles = usage(pid)
    quiet_since = time.monotonic()
    deadline = quiet_since + 60
    while time.monotonic() < min(quiet_since + 1, deadline):
        time.sleep(0.1)
        _, t, h = usage(pid)
        if (t, h) < (threads, handles):
            threads, handles, quiet_since = t, h, time.monotonic()
    return threads, handles
