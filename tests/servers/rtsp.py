"""A network camera that sends H.264 over RTSP, made with GStreamer's RTSP server.

It runs in the system's Python, which has GStreamer: `/usr/bin/python3 tests/servers/rtsp.py PORT`.
"""

from __future__ import annotations

import argparse
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from clock import luma, now  # noqa: E402 (beside this file)
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

LAUNCH = (
    "( appsrc name=pictures is-live=true do-timestamp=true format=time"
    " caps=video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"
    " ! openh264enc gop-size={gop} complexity=low ! h264parse"
    " ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)


class Camera:
    """A camera that makes pictures at its frame rate while a client is connected."""

    def __init__(self, width: int, height: int, fps: int) -> None:
        self._size = width, height
        self._fps = fps
        self._chroma = b"\x80" * (width * height // 2)

    def start(self, _: Any, media: Any) -> None:
        """Begin to make pictures for a stream that was just set up."""
        source = media.get_element().get_by_name("pictures")
        GLib.timeout_add(1000 // self._fps, self._push, source)

    def _push(self, source: Any) -> bool:
        picture = luma(now(), *self._size) + self._chroma
        flow = source.emit("push-buffer", Gst.Buffer.new_wrapped(picture))
        return bool(flow == Gst.FlowReturn.OK)


def serve(port: int, width: int, height: int, fps: int, password: str) -> Any:
    """Return a server for rtsp://127.0.0.1:port/cam."""
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(LAUNCH.format(width=width, height=height, fps=fps, gop=max(fps // 2, 1)))
    factory.set_shared(True)
    factory.connect("media-configure", Camera(width, height, fps).start)
    if password:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "user")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic("me", password), token)
        server.set_auth(auth)
        factory.add_role_from_structure(
            Gst.Structure.from_string(
                "user, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
            )[0]
        )
    server.get_mount_points().add_factory("/cam", factory)
    server.attach(None)
    return server


def main() -> None:
    """Serve until the time is over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--password", default="")
    parser.add_argument("--seconds", type=int, default=300, help="seconds until the end")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    Gst.init(None)
    server = serve(options.port, width, height, options.fps, options.password)
    loop = GLib.MainLoop()
    GLib.timeout_add_seconds(options.seconds, loop.quit)
    loop.run()
    del server


if __name__ == "__main__":
    main()
