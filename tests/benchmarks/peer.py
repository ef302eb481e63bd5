"""This program and a plain loop around a detector, as people write it, in turn on the same clip.

    python -m tests.benchmarks.peer CLIP --detector MODEL.xml [--rounds 3] [--set key=value ...]

The loop: OpenCV reads a frame, shrinks it and draws its boxes, OpenVINO runs the detector on all
cores, OpenCV writes the frame. The detector is an OpenVINO model with one picture as input, (1, 3,
height, width) or (1, height, width, 3), and one of the usual outputs:

* (n, 5): corners in pixels of the input and score, as of person-vehicle-bike-detection-2003;
* (1, 1, n, 7): picture, class, score and corners from 0 to 1, as of the SSDs of Open Model Zoo;
* (1, 4 + classes, n): centre, size in pixels of the input, class scores, as of YOLOv8 and YOLO11.

This program: `run_pipeline.py CLIP -o OUT.mp4` with its defaults. The benchmark prints frames a
second and milliseconds of processor time a frame, as medians of the rounds, and the median of their
ratios within a round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
from numpy.typing import NDArray

from squeezedrive.engines.backends.cpu.openvino import compile_model, core
from squeezedrive.engines.settings import parse_setting
from squeezedrive.pipeline.app.outputs import Outputs
from squeezedrive.pipeline.app.session import open_session
from squeezedrive.pipeline.config import load_config
from squeezedrive.pipeline.core.frame import Image
from tests.benchmarks.stages import cpu_seconds

THRESHOLD = 0.4
NMS_IOU = 0.45
GREEN = (0, 200, 0)


class PlainLoop:
    """A loop that reads, shrinks, infers, draws and writes one frame after the other."""

    def __init__(self, detector: Path) -> None:
        model = core().read_model(detector)
        options = {"PERFORMANCE_HINT": "LATENCY"}
        self._network = compile_model(model, options)
        shape = list(model.input().shape)
        self._planes = shape[1] == 3
        self._height, self._width = shape[2:] if self._planes else shape[1:3]
        self._element = model.input().element_type.to_dtype()

    def run(self, source: str, target: Path) -> int:
        """Annotate a clip; return the number of frames."""
        capture = cv2.VideoCapture(source)
        writer, count = None, 0
        while True:
            given, image = capture.read()
            if not given:
                break
            for x1, y1, x2, y2 in self._boxes(image).round().astype(int).tolist():
                cv2.rectangle(image, (x1, y1), (x2, y2), GREEN, 2)
            if writer is None:
                fps = capture.get(cv2.CAP_PROP_FPS)
                size = (image.shape[1], image.shape[0])
                writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
            writer.write(image)
            count += 1
        if writer is None:
            raise SystemExit(f"{source}: OpenCV cannot read a frame of it")
        writer.release()
        return count

    def _boxes(self, image: Image) -> NDArray[np.float32]:
        """Return boxes as corners in pixels of the picture."""
        pixels = cv2.resize(image, (self._width, self._height)).astype(self._element)[None]
        if self._planes:
            pixels = pixels.transpose(0, 3, 1, 2)
        results = self._network(np.ascontiguousarray(pixels))
        tensor = next(t for out, t in results.items() if len(out.partial_shape) > 1)
        boxes = _corners(tensor, self._width, self._height)
        scale = np.array([image.shape[1] / self._width, image.shape[0] / self._height] * 2)
        return (boxes * scale).astype(np.float32)


def _corners(tensor: NDArray[Any], width: int, height: int) -> NDArray[np.float32]:
    """Return boxes over the threshold as corners in pixels of the detector's input."""
    if tensor.ndim == 2 and tensor.shape[1] == 5:
        return tensor[tensor[:, 4] > THRESHOLD, :4]
    if tensor.ndim == 4 and tensor.shape[3] == 7:
        rows = tensor[0, 0]
        return rows[rows[:, 2] > THRESHOLD, 3:] * np.array([width, height] * 2)
    if tensor.ndim == 3 and tensor.shape[1] > 4:
        scores = tensor[0, 4:].max(0)
        kept = scores > THRESHOLD
        x, y, w, h = tensor[0, :4, kept].T
        boxes = np.stack([x - w / 2, y - h / 2, w, h], 1)
        best = cv2.dnn.NMSBoxes(boxes.tolist(), scores[kept].tolist(), THRESHOLD, NMS_IOU)
        boxes = boxes[np.asarray(best, int)]
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    raise SystemExit(f"the detector's output has shape {tensor.shape}, which is not supported here")


def ours(source: str, config: Any, target: Path) -> int:
    """Annotate a clip with the pipeline; return the number of frames."""
    with open_session([source], config, Outputs({"output": target}, overwrite=True)) as session:
        session.pipeline.run()
        return session.pipeline.processed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip")
    parser.add_argument("--detector", type=Path, required=True, metavar="MODEL.xml")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    config = load_config(settings=[parse_setting(text) for text in arguments.set])
    loop = PlainLoop(arguments.detector)
    runs = {
        "plain loop": lambda target: loop.run(arguments.clip, target),
        "SqueezeDrive": lambda target: ours(arguments.clip, config, target),
    }
    walls: dict[str, list[float]] = {name: [] for name in runs}
    processor: dict[str, list[float]] = {name: [] for name in runs}
    frames = 0
    with tempfile.TemporaryDirectory() as name:
        for _ in range(arguments.rounds):
            for kind, run in runs.items():
                start, cpu = time.perf_counter(), cpu_seconds()
                frames = run(Path(name) / "out.mp4")
                walls[kind].append((time.perf_counter() - start) / frames)
                processor[kind].append((cpu_seconds() - cpu) / frames)
    device = core().get_property("CPU", "FULL_DEVICE_NAME")
    print(f"{device}, OpenVINO {ov.__version__.split('-')[0]}, {frames} frames, medians")
    for kind in runs:
        wall, cpu = (statistics.median(values[kind]) for values in (walls, processor))
        print(f"{kind:<14} {1 / wall:6.1f} fps {1e3 * cpu:7.1f} ms of processor time a frame")
    for what, values in (("frames a second", walls), ("processor time", processor)):
        pairs = zip(values["plain loop"], values["SqueezeDrive"], strict=True)
        print(f"{what}: {statistics.median(a / b for a, b in pairs):.2f} times in our favour")


if __name__ == "__main__":
    main()
