"""Verdicts on hand-made times; the expected limits can be calculated on paper."""

from dataclasses import replace
from pathlib import Path

import pytest

from squeezedrive.engines.backends.base import BackendInfo
from squeezedrive.engines.config_files import CONFIGS
from squeezedrive.engines.settings import parse_setting
from squeezedrive.pipeline.config import Config, load_config
from squeezedrive.pipeline.profiling.advice import advise, explain
from squeezedrive.pipeline.profiling.verdict import Load, StageLoad, judge

NAMES = ("capture", "preprocess", "inference", "postprocess", "render", "sinks")
RING = ("preprocess", "inference", "postprocess")


def stages(**busy_ms: float) -> tuple[StageLoad, ...]:
    """Return stages with 100 frames each; a frame takes the given ms, all in the stage's thread."""
    return tuple(
        StageLoad(name, 1, 100, busy_ms.get(name, 1.0) / 10, busy_ms.get(name, 1.0) / 10, 0.0, 0.0)
        for name in NAMES
    )


def load(loads: tuple[StageLoad, ...], seconds: float, cores: int, **values: object) -> Load:
    cpu = sum(one.cpu + one.library_cpu for one in loads)
    given = {"cores_busy": cpu / seconds / cores, "ring": RING, "slots": 100, **values}
    return Load(seconds, 100, cores, cpu, loads, **given)  # type: ignore[arg-type]


def test_a_stage_that_is_always_busy_limits_if_cores_are_free() -> None:
    # The encoder takes 40 ms a frame: 25 fps. Next is the network with 20 ms: 50 fps.
    verdict = judge(load(stages(sinks=40, inference=20), 4.0, 8))
    assert (verdict.limit, verdict.stage, verdict.next) == ("stage", "sinks", "inference")
    assert verdict.fps == pytest.approx(25)
    assert verdict.ceiling == pytest.approx(50)


def test_several_workers_share_the_frames_of_a_stage() -> None:
    loads = tuple(
        replace(one, workers=4) if one.name == "inference" else one
        for one in stages(sinks=40, inference=80)
    )
    # Four workers with 80 ms each pass a frame every 20 ms.
    verdict = judge(load(loads, 4.0, 8))
    assert (verdict.limit, verdict.stage, verdict.next) == ("stage", "sinks", "inference")
    assert verdict.ceiling == pytest.approx(50)


def test_busy_cores_make_the_processor_the_limit() -> None:
    # 30 + 10 + 4 ms on two cores: 22 ms a frame at best. The stages wait for cores: the network's
    # thread is busy for 22 ms of wall time, of which its libraries work 15 on two cores.
    loads = (
        StageLoad("capture", 1, 100, 0.5, 0.1, 0.0, 0.4),
        StageLoad("preprocess", 1, 100, 0.2, 0.1, 0.0, 0.1),
        StageLoad("inference", 1, 100, 2.2, 0.0, 3.0, 1.4),
        StageLoad("postprocess", 1, 100, 0.1, 0.1, 0.0, 0.0),
        StageLoad("render", 1, 100, 0.2, 0.1, 0.0, 0.1),
        StageLoad("sinks", 1, 100, 2.0, 1.0, 0.0, 1.0),
    )
    verdict = judge(load(loads, 2.2, 2))
    assert (verdict.limit, verdict.stage) == ("processor", "inference")
    # Without the network 14 ms of processor time are left, 7 on two cores; the encoder's own
    # thread, which cannot be split, needs 10.
    assert verdict.next == "sinks"
    assert verdict.ceiling == pytest.approx(100)


def test_remaining_processor_time_bounds_the_ceiling() -> None:
    # 10 ms each: 60 ms on two cores, 30 ms a frame. Without one of them 50 ms, 25 a frame.
    loads = stages(**dict.fromkeys(NAMES, 10.0))
    verdict = judge(load(loads, 3.0, 2))
    assert (verdict.limit, verdict.next) == ("processor", "processor")
    assert verdict.ceiling == pytest.approx(40)


def test_other_programs_are_distinguished_from_this_one() -> None:
    # 30 ms of processor time a frame, but only a quarter of two busy cores for this program.
    loads = stages(sinks=25)
    verdict = judge(load(loads, 6.0, 2, cores_busy=1.0))
    assert verdict.limit == "others"
    assert verdict.fps == pytest.approx(100 / 6)
    # Without other programs, the encoder limits: its 25 ms are more than 30 / 2.
    assert (verdict.ceiling, verdict.next) == (pytest.approx(40), "sinks")


def test_without_system_figures_the_own_share_is_used() -> None:
    loads = stages(**dict.fromkeys(NAMES, 10.0))
    assert judge(load(loads, 3.0, 2, cores_busy=None)).limit == "processor"
    assert judge(load(loads, 30.0, 2, cores_busy=None)).limit == "hand-over"


def test_unknown_delays_leave_only_processor_time_as_a_floor() -> None:
    one = StageLoad("sinks", 1, 100, busy=4.0, cpu=1.0)
    assert one.floor == pytest.approx(1.0)
    assert replace(one, delay=0.5).floor == pytest.approx(3.5)
    assert replace(one, delay=3.9).floor == pytest.approx(1.0)


def test_a_stage_may_work_on_every_second_frame_only() -> None:
    # 60 ms for each of 50 frames are 30 ms for each of the 100 that come out: 33 fps.
    loads = tuple(
        replace(one, frames=50, busy=3.0, cpu=3.0) if one.name == "inference" else one
        for one in stages(sinks=40)
    )
    verdict = judge(load(loads, 4.0, 8))
    assert (verdict.stage, verdict.next) == ("sinks", "inference")
    assert verdict.ceiling == pytest.approx(1000 / 30)


def test_hand_over_between_stages_can_be_the_limit() -> None:
    verdict = judge(load(stages(inference=20, sinks=20), 4.0, 8))
    assert verdict.limit == "hand-over"
    assert verdict.ceiling == pytest.approx(50)


def test_the_number_of_slots_bounds_the_ceiling() -> None:
    # Each frame holds one of two slots for 1 + 20 + 1 ms: 11 ms a frame, more than any stage
    # but the encoder and, with four workers, the network.
    loads = tuple(
        replace(one, workers=4) if one.name == "inference" else one
        for one in stages(sinks=40, inference=20)
    )
    verdict = judge(load(loads, 4.0, 8, slots=2))
    assert (verdict.stage, verdict.next) == ("sinks", "slots")
    assert verdict.ceiling == pytest.approx(1000 / 11)


def test_a_camera_can_be_the_limit() -> None:
    verdict = judge(load(stages(inference=20), 4.0, 8, live=True, source_fps=25.0))
    assert (verdict.limit, verdict.next) == ("source", "inference")
    assert verdict.ceiling == pytest.approx(50)
    slow = judge(load(stages(sinks=45), 4.5, 8, live=True, source_fps=25.0))
    assert (slow.limit, slow.stage, slow.next) == ("stage", "sinks", "source")
    assert slow.ceiling == pytest.approx(25)


def test_a_busy_accelerator_is_the_limit() -> None:
    verdict = judge(load(stages(sinks=15), 2.0, 8, device=1.95))
    assert (verdict.limit, verdict.stage, verdict.next) == ("accelerator", "inference", "sinks")
    assert verdict.ceiling == pytest.approx(1000 / 15)
    busy = judge(load(stages(sinks=20), 2.0, 8, device=1.5))
    assert (busy.limit, busy.next) == ("stage", "accelerator")


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config()


@pytest.mark.parametrize("name", NAMES)
def test_there_is_something_to_try_for_every_stage(config: Config, name: str) -> None:
    verdict = judge(load(stages(**{name: 40}), 4.0, 8))
    assert verdict.stage == name
    for advice in advise(verdict, config, "file", backend(), 8):
        if advice.sweep:
            key, _, values = advice.sweep.partition("=")
            for value in values.split(","):  # every value is a valid setting
                setting = (advice.sweep, key, _parse(value))
                load_config(settings=[setting])
        assert advice.text


def backend(name: str = "cpu", precision: str = "fp32") -> BackendInfo:
    return BackendInfo(name, "some runtime", "some device", precision, "asked for")


def _parse(value: str) -> object:
    import yaml

    return yaml.safe_load(value)


def test_advice_follows_the_settings(config: Config) -> None:
    verdict = judge(load(stages(sinks=40), 4.0, 8))
    sweeps = [advice.sweep for advice in advise(verdict, config, "file", backend(), 8)]
    assert sweeps == ["video.preset=superfast,ultrafast", "video.threads=4,8"]
    silent = load_config(Path(CONFIGS / "profile.yaml"))
    assert [a.text for a in advise(verdict, silent, "file", backend(), 8)] == ["fewer outputs"]


@pytest.mark.parametrize(
    ("info", "settings", "expected"),
    [
        (backend(precision="fp32"), [], "cpu.streams=2,3"),  # auto takes int8 if there is a model
        (backend(precision="fp32"), ["cpu.precision=fp32"], "cpu.precision=fp32,int8"),
        (backend(precision="int8"), ["queue.slots=9"], "cpu.streams=2,4"),
        (backend(precision="int8"), ["queue.slots=2"], "track.every=1,2"),
        (backend("torch", "fp16"), [], "track.every=1,2"),
        (backend("tensorrt", "fp16"), [], "cuda.precision=fp16,int8"),
        (backend("tensorrt", "int8"), ["cpu.precision=fp32"], "track.every=1,2"),
    ],
)
def test_advice_suits_the_back_end(info: BackendInfo, settings: list[str], expected: str) -> None:
    verdict = judge(load(stages(inference=40), 4.0, 8))
    chosen = [parse_setting(text) for text in ("cpu.streams=2", *settings)]
    advice = advise(verdict, load_config(settings=chosen), "file", info, 8)
    assert advice[0].sweep == expected


@pytest.mark.parametrize(
    ("stage", "setting", "expected"),
    [
        ("capture", "source.decode=cpu", "source.decode=cpu,auto"),
        ("sinks", "video.encoder=x264", "video.encoder=x264,auto"),
    ],
)
def test_advises_the_gpus_decoder_and_encoder(stage: str, setting: str, expected: str) -> None:
    verdict = judge(load(stages(**{stage: 40}), 4.0, 8))
    with_it, without = load_config(settings=[parse_setting(setting)]), load_config()

    def first(config: Config, name: str) -> str:
        return advise(verdict, config, "file", backend(name), 8)[0].sweep

    assert first(with_it, "tensorrt") == expected
    assert expected not in (first(without, "tensorrt"), first(with_it, "cpu"))


def test_settings_already_in_force_are_not_advised(config: Config) -> None:
    for stage, setting in (("render", "draw.status=false"), ("postprocess", "detect.top_n=1")):
        verdict = judge(load(stages(**{stage: 40}), 4.0, 8))
        changed = load_config(settings=[parse_setting(setting)])
        assert [a.text for a in advise(verdict, changed, "file", backend(), 8)] == ["fewer outputs"]


def test_the_verdict_in_words() -> None:
    text = explain(judge(load(stages(sinks=40, inference=20), 4.0, 8)), 8)
    assert text == (
        "The stage sinks limits: it works all the time, and cores are free. If sinks cost nothing,"
        " the run could reach at most 50.0 fps instead of 25.0; then the stage inference would"
        " limit it."
    )
    text = explain(judge(load(stages(**dict.fromkeys(NAMES, 10.0)), 3.0, 2)), 2)
    assert text.startswith("The processor limits: both cores are busy, and ")
    assert "at most 40.0 fps instead of 33.3; then the other 50.0 ms of processor time" in text
