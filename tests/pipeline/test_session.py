"""A session opened by another program, with its own sinks and drawing, in any thread."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.errors import UserError
from squeezedrive.pipeline.app import session as module
from squeezedrive.pipeline.app.network import LoadedNetwork, describe_network, open_network
from squeezedrive.pipeline.app.outputs import Outputs
from squeezedrive.pipeline.app.session import Session, open_session
from squeezedrive.pipeline.config import Config, load_config
from squeezedrive.pipeline.core.sink import FrameResult
from squeezedrive.pipeline.core.source import Source
from squeezedrive.pipeline.core.stage import STAGES
from squeezedrive.pipeline.sources.video import VideoSource
from squeezedrive.pipeline.stages.pipeline import Pipeline
from tests.support.fakes import FakeSink, fail
from tests.support.media import write_video

FRAMES = 60


@pytest.fixture(autouse=True)
def _no_stage_outlives() -> Iterator[None]:
    """Check that all stages end with their test; threads of libraries may go on."""
    yield
    assert not {thread.name.split()[0] for thread in threading.enumerate()} & set(STAGES)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, FRAMES, size=(320, 192))
    return path


@pytest.fixture
def config(small_network: Path) -> Config:
    settings = {"network": str(small_network), "backend": "cpu", "video.write": False}
    return load_config(settings=[("test", *setting) for setting in settings.items()])


def numbers(sink: FakeSink) -> list[int]:
    return [result.frame.frame_id for result in sink.results]


def test_a_caller_can_pass_sinks_and_drawing(clip: Path, config: Config, tmp_path: Path) -> None:
    written: list[bool] = []
    jsonl = tmp_path / "out.jsonl"
    sink = FakeSink(on_write=lambda: written.append(jsonl.exists()))

    def draw(result: FrameResult, status: str) -> None:
        result.frame.image[:] = 7

    with open_session([str(clip)], config, Outputs({"jsonl": jsonl}), [sink], draw) as session:
        assert session.files == [str(jsonl), "fake"]
        session.pipeline.run()
    assert numbers(sink) == list(range(FRAMES))
    assert all(written)  # the caller's sink is written after the program's
    assert all(np.all(result.frame.image == 7) for result in sink.results)
    assert sink.closed == 1


def test_nothing_is_drawn_unless_it_is_asked_for(clip: Path, config: Config) -> None:
    sink = FakeSink()
    with open_session([str(clip)], config, Outputs(), [sink]) as session:
        assert session.feeds[0].draw is None
        session.pipeline.run()
    assert len(sink.results) == FRAMES


def test_each_source_can_have_its_own_sinks(clip: Path, config: Config) -> None:
    sinks: dict[Source, FakeSink] = {}

    def sinks_of(source: Source) -> list[FakeSink]:
        return [sinks.setdefault(source, FakeSink())]

    with open_session([str(clip), str(clip)], config, Outputs(), sinks_of) as session:
        session.pipeline.run()
        assert [feed.source for feed in session.feeds] == list(sinks)
    assert [numbers(sink) for sink in sinks.values()] == [list(range(FRAMES))] * 2
    for number, sink in enumerate(sinks.values()):
        assert {result.frame.source_id for result in sink.results} == {number}


@pytest.mark.parametrize("end", [Pipeline.stop, Pipeline.give_up])
def test_a_run_in_a_thread_is_ended_from_another(
    clip: Path, config: Config, end: Callable[[Pipeline], None]
) -> None:
    some, ended = threading.Event(), threading.Event()
    sink = FakeSink(on_write=lambda: (some.set(), ended.wait(60)))
    with open_session([str(clip)], config, Outputs(), [sink]) as session:
        thread = threading.Thread(target=session.pipeline.run)
        thread.start()
        assert some.wait(60)
        end(session.pipeline)
        ended.set()
        thread.join(60)
        assert not thread.is_alive()
    assert 0 < len(sink.results) < FRAMES
    assert numbers(sink) == list(range(len(sink.results)))
    assert sink.closed == 1


def test_two_sessions_run_at_once(clip: Path, config: Config) -> None:
    one, other = threading.Event(), threading.Event()
    sinks = [  # neither session goes on before the other has a result
        FakeSink(on_write=lambda: (one.set(), other.wait(30))),
        FakeSink(on_write=lambda: (other.set(), one.wait(30))),
    ]
    sessions: list[Session] = []
    try:
        for sink in sinks:
            sessions.append(open_session([str(clip)], config, Outputs(), [sink]))
        threads = [threading.Thread(target=session.pipeline.run) for session in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        for session in sessions:
            session.close()
    assert [numbers(sink) for sink in sinks] == [list(range(FRAMES))] * 2


def closing_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the name of each source or back end that is closed, in order."""
    closed: list[str] = []
    close, open_network = VideoSource.close, module.open_network

    def close_source(source: VideoSource) -> None:
        closed.append("source")
        close(source)

    def opened(*arguments: Any) -> Any:
        backend = open_network(*arguments)
        close_backend = backend.close
        backend.close = lambda: (closed.append("back end"), close_backend())  # type: ignore[method-assign]
        return backend

    monkeypatch.setattr(VideoSource, "close", close_source)
    monkeypatch.setattr(module, "open_network", opened)
    return closed


def test_sources_are_closed_once_and_before_the_back_end(
    clip: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = closing_of(monkeypatch)
    session = open_session([str(clip)], config, Outputs())
    assert not closed
    session.close()
    session.close()
    assert closed == ["source", "back end"]


def test_a_failing_step_closes_what_was_opened(
    clip: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = closing_of(monkeypatch)
    with pytest.raises(UserError, match="no such sink"):
        open_session([str(clip)], config, Outputs(), lambda _: fail(UserError("no such sink"))())  # type: ignore[arg-type, return-value]
    assert closed == ["source", "back end"]
    del closed[:]
    monkeypatch.setattr(module, "open_network", lambda *_: fail(UserError("no network"))())
    with pytest.raises(UserError, match="no network"):
        open_session([str(clip)], config, Outputs())
    assert closed == ["source"]


def test_a_loaded_network_serves_several_sessions(
    clip: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = describe_network(config)
    loaded = LoadedNetwork(network, open_network(config, network))
    monkeypatch.delattr(module, "open_network")  # the network is not loaded again
    for _ in range(2):
        sink = FakeSink()
        with open_session([str(clip)], config, Outputs(), [sink], loaded=loaded) as session:
            session.pipeline.run()
        assert numbers(sink) == list(range(FRAMES))
    loaded.backend.close()
