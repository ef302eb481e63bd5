"""Cameras that run in processes of their own, to be killed, frozen and started again."""

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
START_SECONDS = 60.0  # a server may take to answer
LIFE_SECONDS = 300  # after which a server ends by itself


@cache
def rtsp_missing() -> str:
    """Say what the RTSP server lacks here; empty if nothing."""
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
    """A camera on the loopback interface, running from the start on.

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
        """Return the address of the picture, of a proxy's port or with "USER:PASSWORD@"."""
        return f"{self._scheme}://{user}127.0.0.1:{port or self.port}/cam"

    def start(self, *more: str) -> None:
        """Start, on the same port as before, and wait until the server answers.

        `more` options hold until it is started again.
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
        """End the server at once, as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """Let the server keep its connections and do nothing more."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def _free_port() -> int:
    """Return a port that no client is given by the system while the server is away.

    A client that asks for a port of its own range, where nobody listens, may even be connected to
    itself, and the server then finds its port taken.
    """
    while True:
        port = 20000 + secrets.randbelow(12000)  # Linux gives clients 32768 to 60999
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
