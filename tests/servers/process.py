"""Cameras in processes of their own, which tests can kill, freeze and start again."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
SYSTEM_PYTHON = "/usr/bin/python3"
GSTREAMER = (
    "import gi; gi.require_version('GstRtspServer', '1.0'); import gi.repository.GstRtspServer"
)
START_SECONDS = 60.0  # until a server has to answer
LIFE_SECONDS = 300  # until a server ends by itself


@cache
def rtsp_missing() -> str:
    """Return which packages the RTSP server lacks on this machine; empty if none."""
    command = [SYSTEM_PYTHON, "-c", GSTREAMER]
    try:
        found = subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except OSError:
        found = False
    if found:
        return ""
    packages = "gir1.2-gst-rtsp-server-1.0 python3-gi"
    return f"no GStreamer RTSP server: apt-get install --no-install-recommends {packages}"


class Server:
    """A camera on the loopback interface; it runs as soon as it is created.

    Parameters
    ----------
    kind : str
        "rtsp" or "mjpeg".
    options : str
        For the server's command line, such as "--fps=10" or "--password=word" (the user is "me").
    """

    def __init__(self, kind: str, *options: str) -> None:
        self.port = _free_port()
        self._scheme = {"rtsp": "rtsp", "mjpeg": "http"}[kind]
        program = {
            "rtsp": [SYSTEM_PYTHON, str(HERE / "rtsp.py")],
            "mjpeg": [sys.executable, "-m", "tests.servers.mjpeg"],
        }[kind]
        self._command = [*program, str(self.port), f"--seconds={LIFE_SECONDS}", *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, port: int | None = None, user: str = "") -> str:
        """Return the camera's address; `port` may be a proxy's, `user` may be "USER:PASSWORD@"."""
        return f"{self._scheme}://{user}127.0.0.1:{port or self.port}/cam"

    def start(self, *more: str) -> None:
        """Start the server on the same port as before and wait until it answers.

        The options in `more` are for this start only.
        """
        self._process = subprocess.Popen(
            [*self._command, *more], cwd=HERE.parent.parent, stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"{' '.join(self._command)}: does not answer")

    def kill(self) -> None:
        """Kill the server, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """Stop the server; its connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue a frozen server."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def _free_port() -> int:
    """Return a port that the system does not give to clients while the server is down.

    A client that connects to a free port in the range of client ports may even get that port for
    itself and be connected to itself; the server then finds its port in use.
    """
    while True:
        port = 20000 + secrets.randbelow(12000)  # Linux gives clients 32768 to 60999
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
