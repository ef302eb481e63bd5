"""Training pictures from several data sets; a seed decides their order and their changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from squeezedrive.engines.datasets.dataset import Dataset as LabelledSet
from squeezedrive.engines.datasets.dataset import LabelledImage, class_indices, class_key
from squeezedrive.engines.datasets.images import read_image
from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.engines.errors import DatasetError
from squeezedrive.engines.training.augment import Sample, change_light, draw_window, join
from squeezedrive.engines.training.config import SetConfig, TrainConfig
from squeezedrive.engines.training.paste import paste
from squeezedrive.kernels.fit import make_fit

Key = tuple[int, int, int]
"""Epoch, position in the epoch, index of the picture; together they define a training sample."""


@dataclass(frozen=True)
class _Part:
    """A data set and its entry in the configuration."""

    dataset: LabelledSet
    config: SetConfig
    labelled: NDArray[np.bool_]

    def __str__(self) -> str:
        """Return a line with the numbers of pictures and objects."""
        data = self.dataset
        text = f"{self.config.root}, {data.split}: {len(data):,} pictures, {_counted(data)}"
        left_out = ", ".join(f"{name} {count:,}" for name, count in data.left_out().items())
        return f"{text}; background: {left_out}" if left_out else text


class TrainingSet(Dataset[Any]):
    """All pictures to train on.

    Pictures are decoded each time they are needed. With a process for each core, this is faster
    than a GPU trains, and memory does not grow with the data set.

    Raises
    ------
    DatasetError
        If a data set cannot be used, has no object to learn from, or is configured to label a class
        that does not exist.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.parts = [_load(entry, config) for entry in config.data.sets]
        self._items: list[tuple[_Part, LabelledImage]] = [
            (part, item) for part in self.parts for item in part.dataset.items
        ]
        self._donors: dict[int, NDArray[np.intp]] = {}
        shown = [item.objects.classes for _, item in self._items]
        for index in range(len(config.network.output.classes)):
            keys = np.flatnonzero([(classes == index).any() for classes in shown])
            if len(keys):
                self._donors[index] = keys

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, key: Key) -> tuple[Sample, NDArray[np.bool_]]:
        """Return a training sample, and whether each class is labelled in it, a bool array."""
        epoch, position, index = key
        rng = np.random.default_rng([self.config.seed, epoch, position, index])
        augment = self.config.augment
        width, height = self.config.window
        labelled = self._items[index][0].labelled
        if rng.random() < augment.mosaic:
            x, y = (int(n * rng.uniform(0.3, 0.7)) for n in (width, height))
            cells = [(x, y), (width - x, y), (x, height - y), (width - x, height - y)]
            others = rng.integers(0, len(self), 3)
            chosen = [index, *(int(i) for i in others)]
            for other in chosen:
                labelled = labelled & self._items[other][0].labelled
            # Beyond the edges of these windows is another picture: boxes end there.
            windows = [self._window(i, c, rng, 0) for i, c in zip(chosen, cells, strict=True)]
            sample = join(windows, (x, y))
        else:
            reach = self.config.network.output.reach
            sample = self._window(index, (width, height), rng, reach)
        if rng.random() < augment.paste and self._donors:
            # The class is drawn first, so that rare classes occur as often as frequent ones.
            class_index = int(rng.choice(list(self._donors)))
            donor = int(rng.choice(self._donors[class_index]))
            window = self._window(donor, (width, height), rng, 0)
            sample = paste(sample, window, class_index, rng)
        image = change_light(sample.image, augment, rng)
        if self.config.network.input.channels == "RGB":
            image = np.ascontiguousarray(image[..., ::-1])
        return replace(sample, image=image), labelled

    def _window(
        self, index: int, window: tuple[int, int], rng: np.random.Generator, reach: float
    ) -> Sample:
        part, item = self._items[index]
        image = read_image(item.image, item.size)
        data, pixels = self.config.data, self.config.network.input
        fit = make_fit(
            part.config.fit or data.fit,
            (image.shape[1], image.shape[0]),
            pixels.size,
            data.band_centre,
        )
        edges = part.dataset.layout != "kitti"
        augment = self.config.augment
        return draw_window(image, item, fit, window, augment, pixels.fill, rng, edges, reach)

    def order(self, epoch: int) -> list[Key]:
        """Return the samples of an epoch; each data set has its length times its weight."""
        rng = np.random.default_rng([self.config.seed, epoch])
        chosen: list[int] = []
        first = 0
        for part in self.parts:
            length = len(part.dataset)
            wanted = max(1, round(length * part.config.weight))
            rounds = [rng.permutation(length) for _ in range(-(-wanted // length))]
            chosen += (np.concatenate(rounds)[:wanted] + first).tolist()
            first += length
        shuffled = rng.permutation(len(chosen))
        return [(epoch, position, chosen[i]) for position, i in enumerate(shuffled.tolist())]


def load_labelled(
    root: str, split: str, classes: Sequence[str], names: Mapping[str, str]
) -> LabelledSet:
    """Read a split with `load_dataset`; the error about missing classes names the keys to change.

    Raises
    ------
    DatasetError
        If the data set cannot be used.
    """
    try:
        return load_dataset(root, split, classes, names)
    except DatasetError as error:
        load_dataset(root, split)  # raises as well if the classes are not the reason
        raise DatasetError(
            f"{error}; network.output.classes chooses the classes, and other names for them are"
            " given as names: of the entry in data.sets"
        ) from None


def _load(entry: SetConfig, config: TrainConfig) -> _Part:
    classes = config.network.output.classes
    dataset = load_labelled(entry.root, entry.split, classes, entry.names)
    if entry.labelled is None:
        if not dataset.counts().any():
            everything = load_dataset(entry.root, entry.split)
            raise DatasetError(
                f"{entry.root}: split {entry.split} has no object of {', '.join(classes)}; there"
                f" are {_counted(everything)}: correct network.output.classes or names: of the"
                " entry in data.sets, or list under labelled: the classes that truly do not occur"
            )
        return _Part(dataset, entry, dataset.counts() > 0)
    indices = class_indices(classes)
    labelled = np.zeros(len(classes), np.bool_)
    for name in entry.labelled:
        if class_key(name) not in indices:
            raise DatasetError(
                f"{entry.root}: labelled: expected some of {', '.join(classes)}, got {name!r}"
            )
        labelled[indices[class_key(name)]] = True
    return _Part(dataset, entry, labelled)


def _counted(dataset: LabelledSet) -> str:
    """Return the number of objects of each class as text: "car 12, van 0"."""
    counts = zip(dataset.classes, dataset.counts().tolist(), strict=True)
    return ", ".join(f"{name} {count:,}" for name, count in counts) or "no labels"
