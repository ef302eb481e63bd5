"""Run a back end over a data set."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from squeezedrive.engines.backends.base import Backend
from squeezedrive.engines.datasets.dataset import Dataset
from squeezedrive.engines.datasets.images import read_image
from squeezedrive.engines.evaluation.results import ImageDetections
from squeezedrive.kernels.params import DetectParams

# The paper's threshold, not the threshold for drawing, because AP also needs uncertain boxes.
DETECT = DetectParams(threshold=0.005)


def find_all(
    backend: Backend,
    class_names: tuple[str, ...],
    dataset: Dataset,
    progress: Callable[[int], None] = lambda done: None,
) -> list[ImageDetections]:
    """Return the boxes that a back end finds in each picture, in pixels of the picture.

    `class_names` are the names of the back end's class indices. `progress` is called after each
    picture with the number of pictures done.

    Raises
    ------
    DatasetError
        If a picture cannot be read or does not have the size that its labels were made for.
    """
    found = []
    with closing(backend.new_slot()) as slot:
        for item in dataset.items:
            slot.preprocess([read_image(item.image, item.size)])
            slot.infer()
            (detections,) = slot.detect()
            found.append(ImageDetections.from_detections(detections, class_names, dataset))
            progress(len(found))
    return found
