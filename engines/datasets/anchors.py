"""Find anchor shapes for a data set: cluster the sizes of its boxes with the distance 1 - IoU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.dataset import Dataset, LabelledImage
from squeezedrive.engines.datasets.images import image_size
from squeezedrive.engines.errors import UserError
from squeezedrive.kernels.fit import Fit, FitMode, make_fit

MIN_SIZE = 6.0
"""Objects narrower or lower than this, in input pixels, are left out; see `augment.min_size`."""
MIN_VISIBLE = 0.35
"""Objects of which a smaller part is inside the input are left out; see `augment.min_visible`."""

_RESTARTS = 10
_ITERATIONS = 100
_SAMPLE = 50_000  # more objects would change the medians by less than a pixel


@dataclass(frozen=True)
class Objects:
    """The sizes of labelled objects in the network's input.

    Attributes
    ----------
    sizes : float64 array (n, 2)
        Width and height of the part inside the input, in pixels of the input.
    classes : int array (n,)
        Index into the names of the classes.
    left_out : int
        Number of objects left out because they are too small or mostly outside.
    """

    sizes: NDArray[np.float64]
    classes: NDArray[np.intp]
    left_out: int


def measure(
    datasets: Sequence[Dataset], fit: FitMode, input_size: tuple[int, int], band_centre: float = 0.5
) -> Objects:
    """Return the sizes of all objects, without neighbours and ignored regions.

    Parameters
    ----------
    datasets : sequence of Dataset
        Data sets with the same classes in the same order.
    fit : str
        How pictures are put into the input: "band", "letterbox" or "stretch".
    input_size : tuple of int
        Width and height of the network's input in pixels.
    band_centre : float
        Where the middle of the band lies, as a fraction of the picture's height from the top.

    Raises
    ------
    UserError
        If there are no objects, or a picture whose size the labels do not give cannot be read.
    """
    sizes: list[NDArray[np.float64]] = [np.empty((0, 2))]
    classes: list[NDArray[np.intp]] = [np.empty(0, np.intp)]
    total = 0
    for item in (item for dataset in datasets for item in dataset.items):
        total += len(item.objects)
        if len(item.objects):
            seen, good = _seen(item, fit, input_size, band_centre)
            sizes.append(seen[good])
            classes.append(item.objects.classes[good].astype(np.intp))
    found = np.concatenate(sizes)
    if len(found) == 0:
        raise UserError(
            f"none of {total} objects is at least {MIN_SIZE:g} px wide and high in an input of"
            f" {input_size[0]}x{input_size[1]}; there is nothing to cluster"
        )
    return Objects(found, np.concatenate(classes), total - len(found))


def _seen(
    item: LabelledImage, fit: FitMode, input_size: tuple[int, int], band_centre: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the sizes (n, 2) of the visible parts, and whether each is worth an anchor (n,)."""
    placed = make_fit(fit, item.size or image_size(item.image), input_size, band_centre)
    seen, share = sizes_in_input(item.objects.boxes, placed)
    return seen, (share >= MIN_VISIBLE) & (seen >= MIN_SIZE).all(axis=1)


def sizes_in_input(
    boxes: NDArray[np.float32], placed: Fit
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sizes of objects in the network's input, and the share of each inside it.

    Parameters
    ----------
    boxes : float32 array (n, 4)
        Corners x1, y1, x2, y2 in pixels of the picture, each with an area.
    placed : Fit
        How the picture is put into the input.

    Returns
    -------
    sizes : float64 array (n, 2)
        Width and height of the part inside, in pixels of the input.
    shares : float64 array (n,)
        Share of each object's area that is inside, 0 to 1.
    """
    whole = placed.to_network(boxes).astype(np.float64)
    x0, y0, x1, y1 = placed.target
    inside = np.clip(whole, [x0, y0, x0, y0], [x1, y1, x1, y1])
    seen = inside[:, 2:] - inside[:, :2]
    area = (whole[:, 2:] - whole[:, :2]).prod(axis=1)
    # Far from the picture, corners of a small box are the same number in single precision.
    return seen, np.divide(seen.prod(axis=1), area, out=np.zeros(len(area)), where=area > 0)


def size_iou(sizes: NDArray[np.float64], shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU (n, k) of boxes that share one corner.

    Parameters
    ----------
    sizes, shapes : float64 arrays (n, 2) and (k, 2)
        Width and height, in the same unit.
    """
    shared = np.minimum(sizes[:, None], shapes).prod(axis=2)
    union = sizes.prod(axis=1)[:, None] + shapes.prod(axis=1) - shared
    overlap: NDArray[np.float64] = shared / union
    return overlap


def cluster(sizes: NDArray[np.float64], count: int, seed: int = 0) -> NDArray[np.float64]:
    """Cluster sizes into shapes: k-means with the distance 1 - IoU.

    The first shapes are chosen as in k-means++ (Arthur and Vassilvitskii, 2007): sizes are drawn
    with a weight, the square of the distance from the sizes drawn before. The best of several
    starts is kept.

    Parameters
    ----------
    sizes : float64 array (n, 2)
        Width and height, all above 0.
    count : int
        Number of shapes.
    seed : int
        Seed of the starts: the same sizes and seed give the same shapes.

    Returns
    -------
    float64 array (count, 2)
        Sorted by area, smallest first.

    Raises
    ------
    UserError
        If there are fewer different sizes than shapes.
    """
    rng = np.random.default_rng(seed)
    if len(sizes) > _SAMPLE:
        sizes = sizes[rng.choice(len(sizes), _SAMPLE, replace=False)]
    different = len(np.unique(sizes, axis=0))
    if different < count:
        raise UserError(f"expected at most {different} shapes for {different} sizes, got {count}")
    tries = [_descend(sizes, _start(sizes, count, rng)) for _ in range(_RESTARTS)]
    _, shapes = max(tries, key=lambda result: result[0])
    return shapes[np.argsort(shapes.prod(axis=1), kind="stable")]


def _start(sizes: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    chosen = sizes[rng.integers(len(sizes), size=1)]
    while len(chosen) < count:
        weight = (1 - size_iou(sizes, chosen).max(axis=1)) ** 2
        chosen = np.vstack([chosen, sizes[rng.choice(len(sizes), p=weight / weight.sum())]])
    return chosen


def _descend(
    sizes: NDArray[np.float64], shapes: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Assign and move until nothing changes; return the best mean IoU and its shapes.

    A cluster's centre is its median. Neither mean nor median has the highest IoU, but the median
    reaches a higher IoU in fewer steps. A step may lower the IoU, so the best shapes are kept.
    """
    best = -1.0, shapes
    before = np.empty(0, np.intp)
    for _ in range(_ITERATIONS):
        overlaps = size_iou(sizes, shapes)
        nearest = overlaps.argmax(axis=1)
        highest = overlaps.max(axis=1)
        if highest.mean() > best[0]:
            best = float(highest.mean()), shapes
        if np.array_equal(nearest, before):
            break
        before = nearest
        groups = [sizes[nearest == index] for index in range(len(shapes))]
        # A shape without any object moves to the object that is farthest from all shapes.
        lonely = sizes[highest.argmin()]
        shapes = np.array([np.median(g, axis=0) if len(g) else lonely for g in groups])
    return best


def mean_best_iou(
    objects: Objects, shapes: NDArray[np.float64], classes: int
) -> NDArray[np.float64]:
    """Return the mean IoU of objects with their most similar shape.

    Returns
    -------
    float64 array (1 + classes,)
        Means of all objects, then of each class; NaN for a class without objects.
    """
    best = size_iou(objects.sizes, shapes).max(axis=1)
    counts = np.bincount(objects.classes, minlength=classes)
    with np.errstate(invalid="ignore"):
        means = np.bincount(objects.classes, best, classes) / counts
    return np.concatenate([[best.mean()], means])
