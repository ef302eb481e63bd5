"""A network camera that sends JPEG pictures over HTTP: `python -m tests.servers.mjpeg PORT`."""

from __future__ import annotations

import argparse
import base64
import itertools
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

from tests.servers.clock import luma, now

BOUNDARY = "frame"


class Camera(BaseHTTPRequestHandler):
    """A request handler that answers every GET with an endless series of pictures."""

    width, height, fps = 320, 240, 25.0
    password = ""
    good: int | None = None

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(f"me:{self.password}".encode()).decode()
        if self.password and self.headers.get("Authorization") != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        due = time.monotonic()
        try:
            for count in itertools.count():
                grey = luma(now(), self.width, self.height)
                image = np.frombuffer(grey, np.uint8).reshape(self.height, self.width)
                jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))[1].tobytes()
                if self.good is not None and count >= self.good:
                    jpeg = jpeg[:2] + bytes(len(jpeg) - 4) + jpeg[-2:]
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}"
                self.wfile.write(f"{head}\r\n\r\n".encode() + jpeg + b"\r\n")
                due = max(due + 1 / self.fps, time.monotonic())  # skips late pictures
                time.sleep(max(due - time.monotonic(), 0))
        except OSError:  # the client has closed the connection
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--password", default="")
    parser.add_argument("--good", type=int, help="number of good pictures; later ones are broken")
    parser.add_argument("--seconds", type=float, default=300.0, help="seconds until the end")
    options = parser.parse_args()
    Camera.width, Camera.height = map(int, options.size.split("x"))
    Camera.fps, Camera.password, Camera.good = options.fps, options.password, options.good
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    time.sleep(options.seconds)


if __name__ == "__main__":
    main()
