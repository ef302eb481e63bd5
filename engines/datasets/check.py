"""Check a data set for mistakes: damaged pictures, impossible boxes, duplicate boxes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.anchors import size_iou, sizes_in_input
from squeezedrive.engines.datasets.copies import SHORTEST, look_hash, stack
from squeezedrive.engines.datasets.dataset import Dataset, LabelledImage, Labels
from squeezedrive.engines.datasets.images import read_thumbnail
from squeezedrive.engines.errors import DatasetError
from squeezedrive.kernels.boxes import iou
from squeezedrive.kernels.fit import FitMode, make_fit

FindingKind = Literal["unusable", "no area", "outside", "partly outside", "duplicate"]

SAME_BOX = 0.95  # IoU from which two boxes of a class are one object labelled twice
EDGE = 0.01  # part of the picture's size that a box may reach out of it, by rounding
FAR_FROM_ANCHORS = 0.25  # IoU with every anchor below which a small object is hard to find
THREADS = min(4, os.cpu_count() or 1)
AHEAD = 64  # pictures decoded ahead: an interrupt waits for at most so many


@dataclass(frozen=True)
class Finding:
    """A mistake in a data set: its kind, where it is (file and line, if any), and what it is.

    A training stops at findings of the kind "unusable"; all others are worth a look.
    """

    kind: FindingKind
    where: str
    what: str

    @classmethod
    def from_error(cls, error: DatasetError) -> Finding:
        """Convert an error about a data set, whose message begins with the file."""
        where, _, what = str(error).partition(": ")
        return cls("unusable", where, what)


@dataclass(frozen=True)
class NetworkView:
    """How the network will see a data set.

    Attributes
    ----------
    fit : str
        How pictures are put into the input: "band", "letterbox" or "stretch".
    input_size : tuple of int
        Width and height of the input in pixels.
    band_centre : float
        Where the middle of the band lies, as a fraction of the picture's height from the top.
    anchors : float64 array (k, 2)
        Width and height of the anchors in pixels of the input.
    min_size, min_visible : float
        A training ignores objects narrower or lower than `min_size` pixels of the input, and
        objects of which less than `min_visible` (0 to 1) is inside the input.
    """

    fit: FitMode
    input_size: tuple[int, int]
    band_centre: float
    anchors: NDArray[np.float64]
    min_size: float
    min_visible: float


@dataclass
class Checked:
    """The result of checking a data set.

    Attributes
    ----------
    dataset : Dataset
        The data set, without the pictures whose labels cannot be read.
    findings : list of Finding
        The mistakes, in the order of the pictures.
    pictures : list of Path
        The pictures that could be decoded.
    hashes : uint8 array (n, 64)
        The hash of each of these pictures; see `look_hash`.
    too_small, hardly_inside, far_from_anchors : int
        Numbers of objects: too small and mostly outside the input, both ignored in a training, and
        smaller than any anchor is made for.
    """

    dataset: Dataset
    findings: list[Finding] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    hashes: NDArray[np.uint8] = field(default_factory=lambda: stack([]))
    too_small: int = 0
    hardly_inside: int = 0
    far_from_anchors: int = 0

    def pictures_with(self) -> NDArray[np.intp]:
        """Return the number of pictures that show each class, an int array (classes,)."""
        counts = np.zeros(len(self.dataset.classes), np.intp)
        for item in self.dataset.items:
            counts[np.unique(item.objects.classes)] += 1
        return counts


def check(
    dataset: Dataset,
    faults: Sequence[DatasetError],
    view: NetworkView,
    step: Callable[[], None],
) -> Checked:
    """Decode all pictures and compare them with their labels.

    A few threads decode the pictures, at a reduced size if the format allows it. Only the hash of
    each picture is kept.

    Parameters
    ----------
    faults : sequence of DatasetError
        The errors in labels that were found when the data set was read.
    view : NetworkView
        How the network will see the pictures.
    step : callable
        Called after each picture.
    """
    checked = Checked(dataset, [Finding.from_error(fault) for fault in faults])
    hashes = []
    looks = zip(dataset.items, _decoded(dataset.items), strict=True)
    for item, seen in looks:
        if isinstance(seen, DatasetError):
            checked.findings.append(Finding.from_error(seen))
        else:
            look, size = seen
            hashes.append(look)
            checked.pictures.append(item.image)
            checked.findings += _box_findings(item, size, dataset.classes)
            _count_small(checked, item, size, view)
        step()
    checked.hashes = stack(hashes)
    return checked


Look = tuple[NDArray[np.uint8], tuple[int, int]]
"""A picture's hash and its size."""


def _decoded(items: Sequence[LabelledImage]) -> Iterator[Look | DatasetError]:
    """Yield the hash and the size of each picture, or the error if it cannot be read."""
    pool = ThreadPoolExecutor(THREADS)
    left = iter(items)
    try:
        waiting = deque(pool.submit(_look, item) for item in islice(left, AHEAD))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(_look, item) for item in islice(left, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def _look(item: LabelledImage) -> Look | DatasetError:
    try:
        thumbnail, size = read_thumbnail(item.image, item.size, SHORTEST)
    except DatasetError as error:
        return error
    return look_hash(thumbnail), size


def _box_findings(
    item: LabelledImage, size: tuple[int, int], classes: Sequence[str]
) -> Iterator[Finding]:
    cut = set(item.cut)
    for place in item.without_area:
        if place in cut:
            yield Finding("outside", item.place(place), "the box lies outside the picture")
        else:
            yield Finding("no area", item.place(place), "the box has no area")
    labels = item.labels
    boxes = labels.boxes.astype(np.float64)
    margin = EDGE * np.array(size)
    beyond = (boxes[:, :2] >= size) | (boxes[:, 2:] <= 0)
    across = (boxes[:, :2] < -margin) | (boxes[:, 2:] > size + margin)
    out = beyond[:, 0] | beyond[:, 1]
    reach = across[:, 0] | across[:, 1] | np.isin(labels.places, item.cut)
    for index in np.flatnonzero(out | reach):
        name = classes[labels.classes[index]]
        where = item.place(int(labels.places[index]))
        if out[index]:
            what = f"{name} {_corners(boxes[index])} lies outside the picture of {_by(size)}"
            yield Finding("outside", where, what)
        else:
            what = f"{name} {_corners(boxes[index])} reaches out of the picture of {_by(size)}"
            yield Finding("partly outside", where, what)
    for first, second in _doubles(labels, boxes):
        name = classes[labels.classes[second]]
        other = item.place(int(labels.places[first])).removeprefix(f"{item.label_file}: ")
        what = f"{name} {_corners(boxes[second])} is the same as {other}"
        yield Finding("duplicate", item.place(int(labels.places[second])), what)


def _doubles(labels: Labels, boxes: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Yield the indices (first, second) of duplicate boxes, which are of the same class."""
    one_class = labels.classes[:, None] == labels.classes
    one_kind = labels.neighbour[:, None] == labels.neighbour
    same = (iou(boxes, boxes) > SAME_BOX) & one_class & one_kind
    for second in range(1, len(boxes)):
        earlier = np.flatnonzero(same[second, :second])
        if len(earlier):
            yield int(earlier[0]), second


def _count_small(
    checked: Checked, item: LabelledImage, size: tuple[int, int], view: NetworkView
) -> None:
    placed = make_fit(view.fit, size, view.input_size, view.band_centre)
    seen, share = sizes_in_input(item.objects.boxes, placed)
    hidden = share < view.min_visible
    small = ~hidden & (seen < view.min_size).any(axis=1)
    rest = seen[~hidden & ~small]
    below = rest.prod(axis=1) < view.anchors.prod(axis=1).min()
    checked.hardly_inside += int(hidden.sum())
    checked.too_small += int(small.sum())
    far = size_iou(rest, view.anchors).max(axis=1) < FAR_FROM_ANCHORS
    checked.far_from_anchors += int((below & far).sum())


def _corners(box: NDArray[np.float64]) -> str:
    return f"({', '.join(f'{value:g}' for value in box.round(1))})"


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
