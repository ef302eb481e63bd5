"""Measures of tracked boxes: steadiness for the eye, and agreement with exact truth.

The measures for the eye use no ids, so they treat raw detections, which have no ids, like the boxes
of a tracker: they link boxes of one frame to those of the next by overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from squeezedrive.kernels.boxes import iou
from squeezedrive.kernels.detections import Detections

LINK = 0.3  # lowest IoU of boxes of one object in two frames
MATCH = 0.5  # lowest IoU of a box with an object of the truth that it finds
BLINK = 0.5  # seconds; an object that comes back within them has blinked
BRIEF = 0.15  # seconds; a person hardly recognises an object that is shown for less


@dataclass(frozen=True)
class Shown:
    """The boxes that one method shows in one frame; `ids` is None without tracking."""

    seconds: float
    found: Detections
    ids: NDArray[np.int32] | None


@dataclass(frozen=True)
class Truth:
    """Objects of one frame: ids (n,), boxes (n, 4), classes (n,), whether they count (n,)."""

    ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]
    counts: NDArray[np.bool_]


def pairs(a: NDArray, b: NDArray, least: float) -> list[tuple[int, int]]:
    """Return the best one-to-one matches of two sets of boxes with an IoU of at least `least`."""
    table = iou(a, b)
    rows, columns = linear_sum_assignment(np.where(table >= least, table, 0), maximize=True)
    return [(i, j) for i, j in zip(rows, columns, strict=True) if table[i, j] >= least]


@dataclass
class _Chain:
    """An object as the eye follows it: its first and last time, and its last boxes."""

    begin: float
    last: float
    boxes: list[NDArray] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


def for_the_eye(frames: Sequence[Shown]) -> dict[str, float]:
    """Return measures of steadiness, which need no truth.

    Returns
    -------
    dict
        boxes: boxes shown per frame. blinks: disappearances that end within BLINK, per object and
        second. brief: share of the appearances that last less than BRIEF, 0 to 1. flips: changes
        of class per object and second. jitter: mean distance of an edge from the line between the
        frames before and after, in % of the box's size. ids: new ids per object and second; 0
        without ids.
    """
    shown = sum(len(frame.found) for frame in frames)
    span = frames[-1].seconds - frames[0].seconds
    object_seconds = max(shown * span / max(len(frames) - 1, 1), 1e-9)
    blinks = flips = 0
    lengths, jerks = [], []
    alive: list[_Chain] = []
    gone: list[_Chain] = []
    classes_before = np.empty(0, np.int32)
    for frame in frames:
        boxes, classes = frame.found.boxes.astype(float), frame.found.classes
        before = np.array([chain.boxes[-1] for chain in alive]).reshape(-1, 4)
        links = {j: i for i, j in pairs(before, boxes, LINK)}
        flips += sum(classes[j] != classes_before[i] for j, i in links.items())
        kept = set(links.values())
        for i, chain in enumerate(alive):
            if i not in kept:
                gone.append(chain)
                lengths.append(chain.last - chain.begin)
        gone = [chain for chain in gone if frame.seconds - chain.last <= BLINK]
        fresh = [j for j in range(len(boxes)) if j not in links]
        ended = np.array([chain.boxes[-1] for chain in gone]).reshape(-1, 4)
        back = pairs(ended, boxes[fresh], LINK)
        blinks += len(back)
        gone = [chain for i, chain in enumerate(gone) if i not in {i for i, _ in back}]
        now = []
        for j, box in enumerate(boxes):
            chain = alive[links[j]] if j in links else _Chain(frame.seconds, frame.seconds)
            chain.last = frame.seconds
            chain.boxes = [*chain.boxes[-2:], box]
            chain.times = [*chain.times[-2:], frame.seconds]
            if len(chain.boxes) == 3:
                jerks.append(_jerk(chain.boxes, chain.times))
            now.append(chain)
        alive, classes_before = now, classes
    lengths += [chain.last - chain.begin for chain in alive if chain.begin > frames[0].seconds]
    ids = {int(i) for frame in frames if frame.ids is not None for i in frame.ids}
    return {
        "boxes": shown / len(frames),
        "blinks": blinks / object_seconds,
        "brief": float(np.mean(np.array(lengths) < BRIEF)) if lengths else 0.0,
        "flips": flips / object_seconds,
        "jitter": 100 * float(np.mean(jerks)) if jerks else 0.0,
        "ids": len(ids) / object_seconds,
    }


def _jerk(boxes: list[NDArray], times: list[float]) -> float:
    """Return the distance of the middle one of three boxes from the line between the others."""
    share = (times[1] - times[0]) / max(times[2] - times[0], 1e-9)
    middle = boxes[0] + share * (boxes[2] - boxes[0])
    size = np.sqrt(max((boxes[1][2:] - boxes[1][:2]).prod(), 1.0))
    return float(np.abs(boxes[1] - middle).mean() / size)


def agreement(frames: Sequence[Shown], others: Sequence[Shown]) -> float:
    """Return the agreement of two methods on boxes and classes: F1 at MATCH, in %."""
    same = shown = 0
    for a, b in zip(frames, others, strict=True):
        shown += len(a.found) + len(b.found)
        for kind in np.union1d(a.found.classes, b.found.classes):
            one, other = (s.found.boxes[s.found.classes == kind].astype(float) for s in (a, b))
            same += len(pairs(one, other, MATCH))
    return 200 * same / max(shown, 1)


def against_truth(frames: Sequence[Shown], truths: Sequence[Truth]) -> dict[str, float]:
    """Return measures of agreement with the truth: CLEAR MOT, IDF1 and others.

    Boxes are matched to objects without regard to their classes; `wrong` measures the classes.

    Returns
    -------
    dict
        MOTA and IDF1 in %, both as Bernardin and Stiefelhagen 2008 and Ristani et al. 2016
        define them; recall and precision in %; switches: number of changes of an object's id;
        breaks: number of times that an object is lost and found again; wrong: % of the found
        objects with a wrong class; delay: mean seconds from an object's first moment in the truth
        to its first box, of all objects that are ever found; error: mean distance of a box's edge
        from the truth, in % of the object's size.
    """
    hits = misses = false = switches = breaks = wrong = 0
    last_id: dict[int, int] = {}
    state: dict[int, bool] = {}
    first_seen: dict[int, float] = {}
    first_found: dict[int, float] = {}
    together: Counter[tuple[int, int]] = Counter()
    lengths: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    errors = []
    for frame, truth in zip(frames, truths, strict=True):
        boxes = frame.found.boxes.astype(float)
        matched = pairs(truth.boxes, boxes, MATCH)
        of_object = dict(matched)
        taken = {j for _, j in matched}
        ignored = truth.boxes[~truth.counts]
        near_ignored = iou(boxes, ignored).max(axis=1, initial=0) > 0.2
        for j in range(len(boxes)):
            if j not in taken and not near_ignored[j]:
                false += 1
                if frame.ids is not None:
                    lengths[1][int(frame.ids[j])] += 1
        for i in range(len(truth.ids)):
            if not truth.counts[i]:
                continue
            name = int(truth.ids[i])
            first_seen.setdefault(name, frame.seconds)
            lengths[0][name] += 1
            j = of_object.get(i)
            if j is None:
                misses += 1
                state[name] = False
                continue
            hits += 1
            first_found.setdefault(name, frame.seconds)
            wrong += frame.found.classes[j] != truth.classes[i]
            breaks += state.get(name) is False and name in last_id
            state[name] = True
            size = np.sqrt((truth.boxes[i, 2:] - truth.boxes[i, :2]).prod())
            errors.append(np.abs(boxes[j] - truth.boxes[i]).mean() / size)
            number = -1 if frame.ids is None else int(frame.ids[j])
            switches += last_id.get(name, number) != number
            last_id[name] = number
            together[name, number] += 1
            lengths[1][number] += 1
    total = hits + misses
    delays = [first_found[name] - first_seen[name] for name in first_found]
    return {
        "MOTA": 100 * (1 - (misses + false + switches) / total),
        "IDF1": 100 * _idf1(together, *lengths),
        "recall": 100 * hits / total,
        "precision": 100 * hits / max(hits + false, 1),
        "switches": switches,
        "breaks": breaks,
        "wrong": 100 * wrong / max(hits, 1),
        "delay": float(np.mean(delays)) if delays else 0.0,
        "error": 100 * float(np.mean(errors)) if errors else 0.0,
    }


def _idf1(
    together: Counter[tuple[int, int]], objects: Counter[int], numbers: Counter[int]
) -> float:
    """Return 2 x frames that agree / frames of both, if each object has its best id."""
    rows = {name: i for i, name in enumerate(objects)}
    columns = {name: j for j, name in enumerate(numbers)}
    table = np.zeros((len(rows), len(columns)))
    for (name, number), count in together.items():
        table[rows[name], columns[number]] = count
    best = linear_sum_assignment(table, maximize=True)
    return float(2 * table[best].sum() / max(sum(objects.values()) + sum(numbers.values()), 1))
