"""The steadiness of boxes and ids: raw detections, trackers of a library, and our tracker.

    pip install trackers        # for comparison; also installs SciPy, which the measures need
    python -m tests.benchmarks.tracking drive.mp4 street:seed=3,seconds=15,fps=20 [--frames 500]

It runs the network once over each source, then every method over the same detections. Rendered
streets have exact truth, with which the boxes are compared too. "as ours" is the agreement with
`--track` when the network runs on every frame. `tracking_measures` explains the other columns.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from squeezedrive.engines.settings import parse_setting
from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.app.network import describe_network, open_network
from squeezedrive.pipeline.config import load_config
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.core.frame import Image
from squeezedrive.pipeline.core.source import SourceOptions
from squeezedrive.pipeline.sources.open import open_source
from squeezedrive.pipeline.tracking.tracker import Tracker
from tests.benchmarks.tracking_measures import Shown, Truth, against_truth, agreement, for_the_eye
from tests.street.spec import PREFIX, parse_street
from tests.street.street import Street

TALL = 35  # pixels; lower objects, and those hidden by half, do not have to be found


@dataclass(frozen=True)
class Clip:
    """The detections in a source per frame, down to the lowest score that a tracker can use."""

    source: str
    class_names: tuple[str, ...]
    threshold: float
    frames: list[tuple[float, Detections]]  # time in seconds, detections


Method = Callable[[Clip], Iterator[Shown]]


def detect(source: str, threshold: float, limit: int, settings: list[str]) -> Clip:
    """Run the network over a source."""
    own = ["video.write=false", f"detect.threshold={Tracker.weakest(threshold)}"]
    config = load_config(settings=[parse_setting(text) for text in own + settings])
    frames: list[tuple[float, Detections]] = []
    network = describe_network(config)
    backend = open_network(config, network)
    slot = backend.new_slot()
    for seconds, image in islice(pictures(source), limit):
        slot.preprocess([image])
        slot.infer()
        frames.append((seconds, slot.detect()[0]))
    slot.close()
    backend.close()
    return Clip(source, network.class_names, threshold, frames)


def pictures(source: str) -> Iterator[tuple[float, Image]]:
    """Yield time in seconds and picture of each frame of a source or a rendered street."""
    if source.startswith(PREFIX):
        spec = parse_street(source)
        street = Street(spec)
        for index in range(spec.frames):
            yield float(index / spec.fps), street.render(index)
        return
    opened = open_source(source, SourceOptions())
    while (frame := opened.read()) is not None:
        yield frame.seconds, frame.image
    opened.close()


def raw(clip: Clip) -> Iterator[Shown]:
    """Yield the detections without tracking."""
    for seconds, found in clip.frames:
        yield Shown(seconds, found[found.scores >= clip.threshold], None)


def ours(every: int = 1, live: bool = False) -> Method:
    """Return the method of `--track` or, for `every` > 1, `--detect-every`, on files or live."""

    def follow(clip: Clip) -> Iterator[Shown]:
        tracker = Tracker(Controls(clip.class_names, clip.threshold))
        waiting: list[float] = []
        for number, (seconds, found) in enumerate(clip.frames):
            if number % every and live:
                yield Shown(seconds, *tracker.at(seconds))
                continue
            if number % every:
                waiting.append(seconds)
                continue
            shown = tracker.update(found, seconds)
            yield from (Shown(at, *tracker.at(at)) for at in waiting)
            yield Shown(seconds, *shown)
            waiting.clear()
        yield from (Shown(at, *tracker.at(at)) for at in waiting)

    return follow


def library(name: str, **settings: float) -> Method:
    """Return a method that shows the objects with an id from a tracker of package `trackers`."""
    import supervision
    import trackers

    def follow(clip: Clip) -> Iterator[Shown]:
        times = [seconds for seconds, _ in clip.frames]
        tracker = getattr(trackers, name)(frame_rate=1 / np.median(np.diff(times)), **settings)
        for seconds, found in clip.frames:
            boxes = supervision.Detections(found.boxes, None, found.scores, found.classes)
            out = tracker.update(boxes, timestamp=seconds)
            out = out[out.tracker_id >= 0]
            shown = Detections(
                out.xyxy.astype(np.float32),
                out.confidence.astype(np.float32),
                out.class_id.astype(np.int32),
            )
            yield Shown(seconds, shown, out.tracker_id.astype(np.int32))

    return follow


def methods(threshold: float) -> dict[str, Method]:
    """Return the methods to compare, by name."""
    found: dict[str, Method] = {"raw": raw}
    try:
        found["ByteTrack, its defaults"] = library("ByteTrackTracker")
        sure = 1.25 * threshold  # the best of ten pairs of settings
        found["ByteTrack, tuned"] = library(
            "ByteTrackTracker", track_activation_threshold=sure, high_conf_det_threshold=sure
        )
        found["OC-SORT"] = library("OCSORTTracker", high_conf_det_threshold=threshold)
    except ImportError:
        print("without comparison: pip install trackers")
    found["ours"] = ours()
    for n in (2, 3, 4):
        found[f"ours, every {n}"] = ours(n)
        found[f"ours, every {n}, live"] = ours(n, live=True)
    return found


def truths(clip: Clip) -> list[Truth]:
    """Return the objects that have to be found in the frames of a street."""
    street = Street(parse_street(clip.source))
    found = []
    for index in range(len(clip.frames)):
        objects = street.truth(index)
        counts = [
            o.occluded < 0.5 and o.truncated < 0.5 and o.box[3] - o.box[1] >= TALL for o in objects
        ]
        found.append(
            Truth(
                np.array([o.track_id for o in objects], np.int64),
                np.array([o.box for o in objects], np.float64).reshape(-1, 4),
                np.array([clip.class_names.index(o.name) for o in objects], np.int64),
                np.array(counts, np.bool_),
            )
        )
    return found


def cost(objects: int, frames: int = 300) -> float:
    """Return the processor time of our tracker in milliseconds a frame."""
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 1000, (objects, 2))
    sizes = generator.uniform(20, 200, (objects, 2))
    start = np.concatenate([corners, corners + sizes], axis=1)
    scores = np.linspace(0.9, 0.3, objects).astype(np.float32)
    classes = (np.arange(objects) % 3).astype(np.int32)
    tracker = Tracker(Controls(("car", "pedestrian", "cyclist"), 0.4))
    begin = time.process_time()
    for k in range(frames):
        boxes = (start + 0.5 * k + generator.normal(0, 1, start.shape)).astype(np.float32)
        tracker.update(Detections(boxes, scores, classes), k / 30)
    return (time.process_time() - begin) / frames * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--threshold", type=float, default=0.4)
    parser.add_argument("--frames", type=int, default=500, help="number from each source, at most")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="trackers")
    for source in arguments.sources:
        clip = detect(source, arguments.threshold, arguments.frames, arguments.set)
        truth = truths(clip) if source.startswith(PREFIX) else None
        reference = list(ours()(clip))
        print(f"\n{source}: {len(clip.frames)} frames, threshold {clip.threshold}")
        for number, (name, method) in enumerate(methods(clip.threshold).items()):
            begin = time.process_time()
            shown = list(method(clip))
            ms = (time.process_time() - begin) / len(shown) * 1e3
            measures = {"ms": ms, **for_the_eye(shown), "as ours": agreement(reference, shown)}
            if truth is not None:
                measures |= against_truth(shown, truth)
            if number == 0:
                print(" " * 24 + "".join(f"{key:>10}" for key in measures))
            print(f"{name:<24}" + "".join(f"{value:10.2f}" for value in measures.values()))
    print(
        "\nprocessor time of ours: " + ", ".join(f"{n} objects {cost(n):.2f} ms" for n in (30, 100))
    )


if __name__ == "__main__":
    main()
