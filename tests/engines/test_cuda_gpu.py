"""The CUDA back ends on a real GPU, with every executor of the network.

python -m pytest -m gpu
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezedrive.engines.backends.base import EngineSettings
from squeezedrive.engines.backends.cpu.options import CpuOptions
from squeezedrive.engines.backends.cuda.backend import CudaBackend
from squeezedrive.engines.backends.cuda.batch_runner import BatchRunner
from squeezedrive.engines.backends.cuda.context import open_gpu
from squeezedrive.engines.backends.cuda.machine import driver_problem
from squeezedrive.engines.backends.cuda.options import CudaOptions
from squeezedrive.engines.backends.select import BACKENDS, open_backend
from squeezedrive.engines.errors import GpuMemoryError
from squeezedrive.engines.model.weights import DEFAULT, int8_model, load_weights
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.params import DetectParams
from squeezedrive.pipeline.core.errors import StageError
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.open import open_source
from squeezedrive.pipeline.stages.feed import QueueOptions
from squeezedrive.pipeline.stages.pipeline import Pipeline
from tests.pipeline.test_run_cuda import Sink
from tests.street.spec import StreetSpec
from tests.street.street import Street
from tests.support.fakes import feed_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        driver_problem() is not None, reason=f"needs an NVIDIA GPU: {driver_problem()}"
    ),
]
WEIGHTS = load_weights(DEFAULT)
SETTINGS = EngineSettings(WEIGHTS, 1248, 384, DetectParams(), int8=int8_model(DEFAULT))
OPTIONS = [CpuOptions(precision="fp32")]


@pytest.fixture(scope="module", params=["tensorrt", "torch"])
def name(request: pytest.FixtureRequest) -> Any:
    obstacles = BACKENDS[request.param].obstacles
    assert obstacles is not None
    if found := obstacles():
        pytest.skip(f"{request.param}: {'; '.join(found)}")
    return request.param


@pytest.fixture
def backend(name: Any) -> Iterator[CudaBackend]:
    opened = open_backend(name, SETTINGS)
    assert isinstance(opened, CudaBackend)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Return frames of a rendered street."""
    street = Street(StreetSpec())
    return [street.render(index) for index in range(0, 60, 10)]


def run(slot: Any, image: np.ndarray) -> Detections:
    slot.preprocess([image])
    slot.infer()
    (found,) = slot.detect()
    assert isinstance(found, Detections)
    return found


def assert_close(found: Detections, expected: Detections, near: float) -> None:
    """Assert that each box clearly above the threshold has a match within 1 px and 0.01."""
    for ours, theirs in ((found, expected), (expected, found)):
        for i in np.flatnonzero(ours.scores > near + 0.02):
            like = theirs.classes == ours.classes[i]
            like &= np.abs(theirs.scores - ours.scores[i]) <= 0.01
            like &= (np.abs(theirs.boxes - ours.boxes[i]) <= 1.0).all(axis=1)
            assert like.any(), (ours.boxes[i], ours.scores[i])


@pytest.mark.parametrize("fit", ["band", "letterbox", "stretch"])
def test_finds_the_same_as_the_cpu(name: Any, pictures: list[np.ndarray], fit: Any) -> None:
    settings = replace(SETTINGS, fit=fit)
    backends = [open_backend(which, settings, OPTIONS) for which in (name, "cpu")]
    slots = [backend.new_slot() for backend in backends]
    boxes = 0
    for image in pictures:
        found, expected = (run(slot, image) for slot in slots)
        assert_close(found, expected, SETTINGS.detect.threshold)
        boxes += len(expected)
    assert boxes > 0
    for slot, backend in zip(slots, backends, strict=True):
        slot.close()
        backend.close()


def test_batch_of_any_sizes_finds_the_same_as_each_picture_alone(
    backend: CudaBackend, pictures: list[np.ndarray]
) -> None:
    slot, alone = backend.new_slot(3), backend.new_slot()
    images = [pictures[0], pictures[1][::2, ::2], pictures[2][:, 200:1000]]
    for batch in (images, images[::-1], images[:1], images[1:]):
        slot.preprocess(batch)
        slot.infer()
        for found, image in zip(slot.detect(), batch, strict=True):
            assert_close(found, run(alone, image), SETTINGS.detect.threshold)
        assert all(seconds > 0 for seconds in slot.device_seconds.values())
    alone.close()
    slot.close()


def test_fp32_is_closer_than_half_precision(name: Any, pictures: list[np.ndarray]) -> None:
    options = [*OPTIONS, CudaOptions(precision="fp32")]
    backends = [open_backend(which, SETTINGS, options) for which in (name, "cpu")]
    slots = [backend.new_slot() for backend in backends]
    for image in pictures[:2]:
        found, expected = (run(slot, image) for slot in slots)
        assert len(found) == len(expected)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.1)
    for slot, backend in zip(slots, backends, strict=True):
        slot.close()
        backend.close()


def test_memory_does_not_grow_over_10_000_frames(
    backend: CudaBackend, pictures: list[np.ndarray]
) -> None:
    gpu = open_gpu()
    slots = [backend.new_slot() for _ in range(3)]

    def used() -> int:
        with gpu.current():
            free, total = gpu.driver.mem_get_info()
        return int(total - free)

    after: list[int] = []
    for i in range(10_000):
        run(slots[i % 3], pictures[i % 2])
        if i % 1000 == 99:
            after.append(used())
    assert after[-1] <= after[0]
    for slot in slots:
        slot.close()


def pipeline_of(backend: CudaBackend, sink: Sink, seconds: int = 2) -> Pipeline:
    source = open_source(f"demo:loop,frames={30 * seconds}", SourceOptions())
    return Pipeline([feed_of(source, [sink])], backend, QueueOptions(slots=4))


def test_two_pipelines_in_one_process_find_the_same(name: Any) -> None:
    backends = [open_backend(name, SETTINGS) for _ in range(2)]
    sinks = [Sink(), Sink()]
    runs = [
        threading.Thread(target=pipeline_of(backend, sink).run)
        for backend, sink in zip(backends, sinks, strict=True)
    ]
    for one in runs:
        one.start()
    for one in runs:
        one.join()
    for backend in backends:
        backend.close()
    assert sinks[0].frames == sinks[1].frames == list(range(len(sinks[0].frames)))
    for ours, theirs in zip(sinks[0].found, sinks[1].found, strict=True):
        assert_close(ours, theirs, SETTINGS.detect.threshold)


@pytest.mark.parametrize("step", ["load", "enqueue", "collect"])
def test_gpu_stays_usable_after_an_exception_in_a_stage(
    backend: CudaBackend, step: str, monkeypatch: pytest.MonkeyPatch, pictures: list[np.ndarray]
) -> None:
    work, left = getattr(BatchRunner, step), [20]

    def fail(self: BatchRunner, *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyError("on purpose")
        return work(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(BatchRunner, step, fail)
        sink = Sink()
        with pytest.raises(StageError, match="on purpose"):
            pipeline_of(backend, sink).run()
        assert sink.closed == 1
    slot = backend.new_slot()
    run(slot, pictures[0])
    slot.close()


def test_reports_a_gpu_without_free_memory(backend: CudaBackend) -> None:
    gpu = open_gpu()
    slot = backend.new_slot()
    held = []
    try:
        with gpu.current():
            size = 1 << 34
            while size > 1 << 20:
                try:
                    held.append(gpu.driver.mem_alloc(size))
                except gpu.driver.MemoryError:
                    size //= 2
        with pytest.raises(GpuMemoryError, match="is not enough"):
            slot.preprocess([np.zeros((8000, 12000, 3), np.uint8)])
    finally:
        with gpu.current():
            for allocation in held:
                allocation.free()
    slot.preprocess([np.zeros((80, 120, 3), np.uint8)])
    slot.close()


@pytest.mark.parametrize("batch", [1, 3])
def test_graphs_give_the_same_boxes(
    backend: CudaBackend, pictures: list[np.ndarray], batch: int
) -> None:
    """The first batch of each size is enqueued step by step; later ones are launched as graphs."""
    slot = backend.new_slot(batch)
    first: list[Detections] = []
    for round_ in range(3):
        for number, image in enumerate(pictures):
            slot.preprocess([image[: 400 + 20 * number]] * batch)
            slot.infer()
            found = slot.detect()
            if round_ == 0:
                first.append(found[0])
            for one in found:
                np.testing.assert_allclose(one.boxes, first[number].boxes, atol=0.5)
                np.testing.assert_array_equal(one.classes, first[number].classes)
    assert slot._runner is not None
    assert slot._runner.launches >= (5 if backend.info.name == "tensorrt" else 4)
    slot.close()


def test_new_threshold_applies_without_a_new_graph(
    backend: CudaBackend, pictures: list[np.ndarray]
) -> None:
    slot = backend.new_slot()
    for _ in range(3):
        assert len(run(slot, pictures[0]))
    assert slot._runner is not None
    detector = slot._runner._detector
    for threshold, some in ((1.0, False), (SETTINGS.detect.threshold, True)):
        detector.params = replace(SETTINGS.detect, threshold=threshold)
        assert bool(len(run(slot, pictures[0]))) == some
    slot.close()


def test_program_runs_on_the_gpu(run: Any, tmp_path: Path, name: Any) -> None:
    out = tmp_path / "out.jsonl"
    code, _, err = run("demo:", "-n", "30", "--no-video", "--jsonl", out, "--backend", name)
    assert code == 0, err
    assert f"backend {name}" in err
    assert len(out.read_text().splitlines()) > 20


@pytest.mark.parametrize(
    "tests",
    [
        ["tests/kernels/test_cuda_detect.py", "-k", "random_and_tied or sorted_at_once"],
        ["tests/kernels/test_cuda_preprocess.py"],
        ["tests/engines/test_cuda_gpu.py", "-k", "as_the_cpu and letterbox or any_sizes"],
    ],
    ids=["detect", "preprocess", "back ends"],
)
def test_compute_sanitizer_reports_no_errors(tests: list[str]) -> None:
    sanitizer = shutil.which("compute-sanitizer", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")
    if sanitizer is None:
        pytest.skip("needs compute-sanitizer, which comes with the CUDA toolkit")
    done = subprocess.run(
        [sanitizer, "--error-exitcode", "9", sys.executable, "-m", "pytest", "-m", "gpu", *tests],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
