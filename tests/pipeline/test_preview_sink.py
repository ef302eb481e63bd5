"""The newest picture, for the viewers of the live page."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from squeezedrive.pipeline.preview import sink as module
from squeezedrive.pipeline.preview.sink import PreviewSink
from tests.support.preview import decode, result, until


@pytest.fixture
def encodings(monkeypatch):
    """Count the encoded pictures; a test can make the encoder wait."""

    class Encodings:
        count = 0
        go = threading.Event()

        def __call__(self, image, aspect):
            self.count += 1
            assert self.go.wait(10)
            return original(image, aspect)

    original, counting = module.encode, Encodings()
    counting.go.set()
    monkeypatch.setattr(module, "encode", counting)
    return counting


def test_nothing_is_encoded_while_nobody_watches(encodings):
    sink = PreviewSink()
    for value in range(100):
        sink.write(result(value))
    assert encodings.count == 0


def test_the_newest_picture_comes_first():
    sink = PreviewSink()
    for value in (10, 20, 200):
        sink.write(result(value))
    jpeg = sink.picture(0, timeout=0)
    assert jpeg is not None
    assert jpeg.number == 3
    picture = decode(jpeg.data)
    assert picture.shape == (90, 160, 3)
    assert abs(int(picture.mean()) - 200) <= 1


def test_no_picture_is_delivered_twice():
    sink = PreviewSink()
    sink.write(result())
    first = sink.picture(0, timeout=0)
    assert first is not None
    assert sink.picture(first.number, timeout=0.01) is None
    assert sink.picture(0, timeout=0) is first  # other viewers still get it


def test_no_picture_before_the_first_frame():
    assert PreviewSink().picture(0, timeout=0.01) is None


def watch(sink, last=0):
    """Ask for a picture in a thread; return the thread and the list that gets the answer."""
    got = []
    watcher = threading.Thread(target=lambda: got.append(sink.picture(last, 100)), daemon=True)
    watcher.start()
    return watcher, got


def test_a_request_waits_for_the_next_picture():
    sink = PreviewSink()
    watcher, got = watch(sink)
    watcher.join(0.1)
    assert watcher.is_alive()
    sink.write(result())
    watcher.join(20)
    assert [jpeg.number for jpeg in got] == [1]


def test_many_watchers_share_one_encoding(encodings):
    sink = PreviewSink()
    encodings.go.clear()
    watchers = [watch(sink) for _ in range(8)]
    sink.write(result())
    encodings.go.set()
    for watcher, _ in watchers:
        watcher.join(20)
    assert encodings.count == 1
    first = watchers[0][1]
    assert len(first) == 1
    assert all(got == first for _, got in watchers)


def test_pictures_are_not_made_more_often_than_ten_times_a_second(encodings):
    sink = PreviewSink()
    begin, last = time.monotonic(), 0
    while encodings.count < 5:
        sink.write(result())
        jpeg = sink.picture(last, timeout=0.005)
        last = jpeg.number if jpeg is not None else last
    elapsed = time.monotonic() - begin
    assert encodings.count <= elapsed / module.INTERVAL + 1


def test_a_watcher_who_comes_later_gets_no_picture_from_before(monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    sink = PreviewSink()
    sink.write(result(10))
    assert sink.picture(0, timeout=0) is not None
    sink.write(result(200))
    jpeg = sink.picture(0, timeout=0)
    assert jpeg is not None
    assert jpeg.number == 2


def test_writing_goes_on_while_a_picture_is_encoded(encodings):
    sink = PreviewSink()
    sink.write(result())
    encodings.go.clear()
    watcher, got = watch(sink)
    assert until(lambda: encodings.count == 1)
    for _ in range(100):  # `write` would never return if it waited for the encoder
        sink.write(result())
    encodings.go.set()
    watcher.join(20)
    assert [jpeg.number for jpeg in got] == [1]


def test_no_old_picture_is_delivered_during_encoding(encodings, monkeypatch):
    sink = PreviewSink()
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    sink.write(result())
    assert sink.picture(0, timeout=1) is not None
    sink.write(result())
    encodings.go.clear()
    watchers = [watch(sink)]
    assert until(lambda: encodings.count == 2)
    monkeypatch.setattr(module, "INTERVAL", 1000.0)
    watchers.append(watch(sink))
    watchers[1][0].join(0.1)
    encodings.go.set()
    for watcher, got in watchers:
        watcher.join(20)
        assert [jpeg.number for jpeg in got] == [2]


def test_a_picture_that_cannot_be_encoded_does_not_block_the_next(monkeypatch):
    sink = PreviewSink()
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    with monkeypatch.context() as broken:
        broken.setattr(module, "encode", lambda image, aspect: 1 / 0)
        sink.write(result())
        with pytest.raises(ZeroDivisionError):
            sink.picture(0, timeout=0)
    sink.write(result())
    assert sink.picture(0, timeout=1) is not None


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1080, 1920), (540, 960)),
        ((512, 1392), (353, 960)),
        ((540, 960), (540, 960)),
        ((4, 4000), (1, 960)),
    ],
)
def test_pictures_are_960_wide_at_most(size, expected):
    sink = PreviewSink()
    sink.write(result(50, *size))
    jpeg = sink.picture(0, timeout=0)
    assert jpeg is not None
    assert decode(jpeg.data).shape == (*expected, 3)


def test_close_ends_waiting_requests_and_forgets_the_picture():
    sink = PreviewSink()
    watcher, got = watch(sink)
    sink.close()
    watcher.join(20)
    assert got == [None]
    sink.write(result())
    sink.close()
    assert sink.picture(0, timeout=0) is None


def test_a_picture_on_a_device_is_fetched_in_the_pipelines_thread():
    fetched_by = []

    class OnDevice:
        def to_host(self):
            fetched_by.append(threading.get_ident())
            return np.zeros((8, 8, 3), np.uint8)

    sink = PreviewSink()
    sink.write(replace(result(), frame=replace(result().frame, picture=OnDevice())))
    watch(sink)[0].join(20)
    assert fetched_by == [threading.get_ident()]
