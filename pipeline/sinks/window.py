"""Show the pictures in a window."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.sinks.spec import SinkContext, SinkSpec

if TYPE_CHECKING:
    from squeezedrive.pipeline.core.frame import Frame

SCREEN_SHARE = 0.9  # of the screen that a new window takes at most: panels need room too


class WindowSink(Sink):
    """A resizable window that shows each frame as soon as it comes.

    The window opens with the first frame, in its size or smaller where the screen is smaller, and
    keeps the picture's aspect. Once the user has closed it or pressed q or Esc, the run should
    end, and further frames are ignored. SDL wants one thread for everything: `write` and `close`
    are called from the same thread. Keys and clicks are seen when a frame comes.

    Parameters
    ----------
    title : str
        Title of the window.

    Raises
    ------
    SinkError
        From `write`, if pygame is not installed or there is no display.
    """

    name = "window"
    draws = is_display = True

    def __init__(self, title: str) -> None:
        self._title = title
        self._pygame: Any = None
        self._layout: tuple[tuple[int, int], tuple[int, int]] | None = None

    def write(self, result: FrameResult) -> None:
        """Show one frame, after looking for keys and clicks."""
        if self.ended:
            return
        if self._pygame is None:
            self._pygame = _import_pygame()
            self._open(result.frame)
        if self._wants_to_quit():
            self.ended = True
            self.close()
            return
        try:
            self._show(result.frame)
        except self._pygame.error as err:
            raise SinkError(f"cannot show the window: {err}") from err

    def close(self) -> None:
        """Close the window."""
        if self._pygame is not None:
            self._pygame.display.quit()
            self._pygame = None

    def _open(self, frame: Frame) -> None:
        from squeezedrive.pipeline.core.frame import shown_size

        pygame = self._pygame
        try:
            pygame.display.init()
            # Without a display SDL draws into memory, and nobody would ever see it.
            if pygame.display.get_driver() == "offscreen" and not os.environ.get("SDL_VIDEODRIVER"):
                pygame.display.quit()
                raise SinkError(
                    "cannot open a window: this machine has no display (DISPLAY and "
                    "WAYLAND_DISPLAY are not usable); leave out --show or log in with a desktop"
                )
            height, width = frame.image.shape[:2]
            width, height = shown_size(width, height, frame.aspect)
            screen = pygame.display.get_desktop_sizes()[0]
            scale = min(1.0, SCREEN_SHARE * screen[0] / width, SCREEN_SHARE * screen[1] / height)
            size = (max(1, round(scale * width)), max(1, round(scale * height)))
            pygame.display.set_mode(size, pygame.RESIZABLE)
            pygame.display.set_caption(self._title)
        except pygame.error as err:
            raise SinkError(f"cannot open a window: {err}; leave out --show") from err

    def _wants_to_quit(self) -> bool:
        pygame = self._pygame
        return any(
            event.type == pygame.QUIT
            or (event.type == pygame.KEYDOWN and event.key in (pygame.K_q, pygame.K_ESCAPE))
            for event in pygame.event.get()
        )

    def _show(self, frame: Frame) -> None:
        import cv2

        from squeezedrive.pipeline.core.frame import shown_size

        pygame = self._pygame
        surface = pygame.display.get_surface()
        window = surface.get_size()
        image = frame.image
        stored = image.shape[1], image.shape[0]
        width, height = shown_size(*stored, frame.aspect)
        scale = min(window[0] / width, window[1] / height)
        size = (max(1, round(scale * width)), max(1, round(scale * height)))
        if self._layout != (window, size):
            surface.fill((0, 0, 0))
            self._layout = (window, size)
        # INTER_AREA keeps thin lines at strong reduction but takes six times as long.
        how = cv2.INTER_AREA if scale <= 0.5 else cv2.INTER_LINEAR
        shown = image if size == stored else cv2.resize(image, size, interpolation=how)
        corner = ((window[0] - size[0]) // 2, (window[1] - size[1]) // 2)
        surface.blit(pygame.image.frombuffer(shown, size, "BGR"), corner)
        pygame.display.flip()


def _import_pygame() -> Any:
    # pygame prints a greeting, and SDL takes SIGTERM for itself, unless these variables are set.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")
    try:
        import pygame
    except ImportError as err:
        raise SinkError(
            "--show needs pygame, which is not installed: pip install -e '.[window]'"
        ) from err
    return pygame


def _open(context: SinkContext) -> Sink:
    return WindowSink(f"SqueezeDrive: {context.source.info.name}")


SPEC = SinkSpec(option="show", kind="switch", help="show the video in a window", open=_open)
