from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.frame import Frame
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.sinks.window import WindowSink

ROOT = Path(__file__).resolve().parents[2]


def result(height: int = 90, width: int = 160) -> FrameResult:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (255, 40, 10)  # blue on the left
    image[:, width // 2 :] = (10, 40, 255)  # red on the right
    return FrameResult(Frame(0, 0, 0, Fraction(1, 25), 0.0, image), Detections.empty())


@pytest.fixture
def pygame(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    module = pytest.importorskip("pygame")
    yield module
    module.display.quit()


@pytest.fixture
def sink(pygame):
    window = WindowSink("a street")
    yield window
    window.close()


def shown(pygame) -> np.ndarray:
    """Return what the window shows: (height, width, 3), BGR."""
    return pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)[:, :, ::-1]


def test_a_small_frame_is_shown_unscaled(pygame, sink):
    sink.write(result())
    np.testing.assert_array_equal(shown(pygame), result().frame.image)
    assert pygame.display.get_caption()[0] == "a street"
    assert not sink.ended


@pytest.mark.parametrize("width", [40, 80, 320])
def test_non_square_pixels_are_stretched_for_display(pygame, sink, width):
    frame = replace(result(90, width).frame, aspect=Fraction(160, width))
    sink.write(FrameResult(frame, Detections.empty()))
    picture = shown(pygame)
    assert picture.shape[1] / picture.shape[0] == pytest.approx(16 / 9)
    assert tuple(picture[45, 5]) == (255, 40, 10)
    assert tuple(picture[45, -5]) == (10, 40, 255)


def test_window_opens_with_the_first_frame(pygame, sink):
    assert not pygame.display.get_init()
    sink.write(result())
    assert pygame.display.get_init()


def test_large_frame_is_reduced_to_fit_the_screen(pygame, sink):
    sink.write(result(2160, 3840))
    screen = pygame.display.get_desktop_sizes()[0]
    height, width = shown(pygame).shape[:2]
    assert width <= 0.9 * screen[0] + 1
    assert height <= 0.9 * screen[1] + 1
    assert width / height == pytest.approx(3840 / 2160, rel=0.01)
    assert tuple(shown(pygame)[height // 2, 5]) == (255, 40, 10)
    assert tuple(shown(pygame)[height // 2, -5]) == (10, 40, 255)


def test_aspect_is_kept_when_the_size_changes(pygame, sink):
    sink.write(result(90, 160))
    sink.write(result(90, 90))  # a square picture in a window of 160 x 90
    picture = shown(pygame)
    assert picture.shape == (90, 160, 3)
    assert not picture[:, :35].any()
    assert not picture[:, -35:].any()
    assert tuple(picture[45, 40]) == (255, 40, 10)
    assert tuple(picture[45, 119]) == (10, 40, 255)


def test_picture_fills_a_window_made_larger(pygame, sink):
    sink.write(result(90, 160))
    pygame.display.set_mode((320, 240), pygame.RESIZABLE)
    sink.write(result(90, 160))
    picture = shown(pygame)
    assert not picture[:30].any()
    assert not picture[-30:].any()
    assert picture[30:210].any(axis=2).all()


@pytest.mark.parametrize("how", ["close button", "q", "escape"])
def test_the_user_can_end_the_run(pygame, sink, how):
    sink.write(result())
    events = {
        "close button": lambda: pygame.event.Event(pygame.QUIT),
        "q": lambda: pygame.event.Event(pygame.KEYDOWN, key=pygame.K_q),
        "escape": lambda: pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE),
    }
    pygame.event.post(events[how]())
    sink.write(result())
    assert sink.ended
    assert not pygame.display.get_init()
    sink.write(result())  # ignored
    assert not pygame.display.get_init()


def test_other_keys_do_not_end_it(pygame, sink):
    sink.write(result())
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_a))
    sink.write(result())
    assert not sink.ended


def test_close_twice_and_without_a_frame(pygame, sink):
    sink.close()
    sink.write(result())
    sink.close()
    sink.close()
    assert not pygame.display.get_init()
    assert not sink.ended  # the user did not end it


def test_missing_pygame_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(SinkError, match=r"pip install -e '\.\[window\]'"):
        WindowSink("a street").write(result())


def test_an_unusable_video_driver_is_an_error_of_one_line(pygame, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "nonsense")
    with pytest.raises(SinkError, match="cannot open a window: nonsense not available") as caught:
        WindowSink("a street").write(result())
    assert "\n" not in str(caught.value)


def test_a_missing_display_is_an_error(pygame, monkeypatch):
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    # Without this, the window could open on a bare console, which has no display server.
    monkeypatch.setattr("pygame.display.get_driver", lambda: "offscreen")
    monkeypatch.setattr("pygame.display.init", lambda: None)
    with pytest.raises(SinkError, match="no display"):
        WindowSink("a street").write(result())


def test_sigterm_still_ends_the_process(pygame, monkeypatch):
    for name in ("SDL_NO_SIGNAL_HANDLERS", "PYGAME_HIDE_SUPPORT_PROMPT"):
        monkeypatch.delenv(name, raising=False)  # the sink sets them itself
    code = (
        "import os, signal, sys, time\n"
        "from tests.pipeline.test_window_sink import *\n"
        "WindowSink('a street').write(result())\n"
        "print('open', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "time.sleep(100)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert run.returncode == -signal.SIGTERM
    assert run.stdout == "open\n"  # pygame prints no greeting
