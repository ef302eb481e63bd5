"""The benchmark of the GPU path runs on the fake GPU, where its figures are meaningless."""

from dataclasses import replace

import numpy as np
import pytest

from squeezedrive.engines.model.weights import DEFAULT, load_weights
from tests.benchmarks import cuda as benchmark
from tests.support.cuda_rig import SETTINGS, Rig, picture
from tests.support.fake_driver import DriverError


def test_reports_a_missing_gpu_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "squeezedrive.engines.backends.cuda.context.driver_problem", lambda: "no NVIDIA GPU (look)"
    )
    benchmark.open_gpu.cache_clear()
    assert benchmark.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: no NVIDIA GPU (look)\n"


@pytest.mark.parametrize("captures", [True, False])
def test_measures_every_step_and_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], captures: bool
) -> None:
    rig = Rig(max_batch=2)
    for name, value in (
        *(("MAX_BATCH", 2), ("REPEATS", 2), ("ROUNDS", 1), ("SLOTS", (1, 2))),
        ("_obstacles", lambda name: ["no PyTorch"] if name == "torch" else []),
        ("open_gpu", lambda: rig.gpu),
        ("open_executor", lambda *arguments: rig.executor),
        ("make_kernels", lambda *arguments: rig.kernels),
        ("EngineSettings", lambda *arguments, **options: SETTINGS),
    ):
        monkeypatch.setattr(benchmark, name, value)
    if not captures:

        def refuse(stream: int, mode: int) -> None:
            raise DriverError("no graphs")

        monkeypatch.setattr(rig.graphs, "cuStreamBeginCapture", refuse)

    report = benchmark.run((320, 240), ("tensorrt", "torch"), 0.01)
    assert rig.driver.clean
    assert rig.graphs.alive == 0
    rows = {what: (value, remark) for what, value, remark in report.rows}
    assert len(rows) == len(report.rows)
    steps, rates, machine = 5, 2, 3
    assert len(rows) == machine + 2 * (steps + 1 + rates) + 1 + 2 * rates
    for batch in (1, 2):
        name = f"fake 1.0 fp32, batch {batch}: launches and copies in graphs"
        assert rows[name][0] == ("5" if captures else "0")
    assert rows["fake 1.0: boxes"][0].endswith("0.00 px and 0.0000 apart")
    assert "floor" in rows["fake 1.0 fp32, batch 2: preprocess"][1]
    assert any("torch: no PyTorch" in line for line in report.missing)
    assert ("no graph: no graphs" in rows["fake 1.0 fp32, batch 1: network"][1]) != captures
    last = str(report).splitlines()[-1]
    assert last.startswith("| fake 1.0 fp32: pipeline, 2 sources, 2 slots | ")


def test_floor_counts_the_operations_of_the_network() -> None:
    weights = load_weights(DEFAULT)
    settings = replace(SETTINGS, weights=weights, width=1248, height=384)
    machine = benchmark.Machine(bandwidth=1e30, bus=1e30, operations=1e9)
    executor = Rig().executor
    image = np.zeros((1080, 1920, 3), np.uint8)
    found = benchmark.floors(settings, machine, executor, image, 2)
    assert found["network"] == pytest.approx(2 * 10.57, rel=1e-3)  # GFLOP: two pictures
    slow = replace(machine, bandwidth=1e9, operations=None)
    found = benchmark.floors(settings, slow, executor, image, 1)
    assert found["preprocess"] == pytest.approx((1920 * 591 * 3 + 3 * 1248 * 384 * 4) / 1e9)


def test_obvious_way_finds_the_same_boxes() -> None:
    pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[train]'")
    image = picture(1)
    found = benchmark.obvious_way(SETTINGS, "cpu")(image)
    rig = Rig()
    slot = rig.slot()
    slot.preprocess([image])
    slot.infer()
    (expected,) = slot.detect()
    slot.close()
    fit = SETTINGS.fit_of((120, 100))
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(fit.to_source(found.boxes), expected.boxes, atol=0.05)
