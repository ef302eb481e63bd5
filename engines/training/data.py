"""Training pictures from several data sets, in an order and with changes that a seed decides."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from engines.datasets.dataset import Dataset as LabelledSet
from engines.datasets.dataset import DatasetError, Item, class_indices, class_key
from engines.datasets.images import read_image
from engines.datasets.load import load_dataset
from engines.training.augment import Sample, change_light, draw_window, join
from engines.training.config import SetConfig, TrainConfig
from engines.training.paste import paste
from engines.training.targets import NO_REGION, NOTHING, Truth
from kernels.fit import make_fit

MAX_WORKERS = 16

Key = tuple[int, int, int]
"""Epoch, position in the epoch, index of the picture: decides a training sample completely."""


@dataclass(frozen=True)
class Batch:
    """Pictures uint8 (B, 3, H, W), channels last in memory, and what is labelled in them."""

    pixels: torch.Tensor
    truth: Truth

    def pin_memory(self) -> Batch:
        """Lock the pixels in memory, so that a GPU can fetch them by itself."""
        return Batch(self.pixels.pin_memory(), self.truth)


@dataclass(frozen=True)
class _Part:
    """A data set with what the configuration says about it."""

    dataset: LabelledSet
    config: SetConfig
    labelled: NDArray[np.bool_]


class TrainingSet(Dataset[Any]):
    """All pictures to train on.

    Pictures are decoded each time they are needed: with as many processes as cores that is faster
    than a GPU trains, and memory does not grow with the data set.

    Raises
    ------
    DatasetError
        If a data set cannot be used, or labels a class it is said not to.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.parts = [_load(entry, config) for entry in config.data.sets]
        self._items: list[tuple[_Part, Item]] = [
            (part, item) for part in self.parts for item in part.dataset.items
        ]
        by_class = {
            index: np.array(
                [
                    k
                    for k, (_, item) in enumerate(self._items)
                    if (item.objects.classes == index).any()
                ]
            )
            for index in range(len(config.network.output.classes))
        }
        self._donors = {index: keys for index, keys in by_class.items() if len(keys)}
        mean = config.network.input.mean
        blue, green, red = mean if config.network.input.channels == "BGR" else mean[::-1]
        self._fill = (round(blue), round(green), round(red))

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, key: Key) -> tuple[Sample, NDArray[np.bool_]]:
        """Return a training sample and which classes are labelled in it."""
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
            windows = [self._window(i, c, rng) for i, c in zip(chosen, cells, strict=True)]
            sample = join(windows, (x, y))
        else:
            sample = self._window(index, (width, height), rng)
        if rng.random() < augment.paste and self._donors:
            # A class first: the rare ones come up as often as the frequent ones.
            class_index = int(rng.choice(list(self._donors)))
            donor = int(rng.choice(self._donors[class_index]))
            window = self._window(donor, (width, height), rng)
            sample = paste(sample, window, class_index, rng)
        image = change_light(sample.image, augment, rng)
        if self.config.network.input.channels == "RGB":
            image = np.ascontiguousarray(image[..., ::-1])
        return (
            Sample(
                image, sample.boxes, sample.classes, sample.ignore_boxes, sample.ignore_classes
            ),
            labelled,
        )  # fmt: skip

    def _window(self, index: int, window: tuple[int, int], rng: np.random.Generator) -> Sample:
        part, item = self._items[index]
        image = read_image(item.image, item.size)
        data, pixels = self.config.data, self.config.network.input
        fit = make_fit(
            part.config.fit or data.fit,
            (image.shape[1], image.shape[0]),
            (pixels.width, pixels.height),
            data.band_centre,
        )
        return draw_window(image, item, fit, window, self.config.augment, self._fill, rng)

    def order(self, epoch: int) -> list[Key]:
        """Return the samples of an epoch: of each data set its length times its weight."""
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


def _load(entry: SetConfig, config: TrainConfig) -> _Part:
    classes = config.network.output.classes
    dataset = load_dataset(entry.root, entry.split, classes, entry.names)
    if entry.labelled is None:
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


class Batches:
    """The batches of one epoch for one of several processes, from one of them on.

    All processes get the same number of full batches; pictures left over are left out, others in
    each epoch.

    Attributes
    ----------
    epoch : int
        Which one is next.
    skip : int
        How many of its batches have been trained already.
    """

    def __init__(self, dataset: TrainingSet, batch: int, rank: int, world: int) -> None:
        self._dataset = dataset
        self._batch, self._rank, self._world = batch, rank, world
        self.epoch = 0
        self.skip = 0
        samples = len(dataset.order(0))
        self._length = samples // (batch * world)
        if not self._length:
            raise DatasetError(
                f"{samples} pictures are fewer than a batch of {batch} on {world} device(s);"
                " make the batch smaller: --set batch=..."
            )

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[Key]]:
        mine = self._dataset.order(self.epoch)[self._rank :: self._world]
        for number in range(self.skip, self._length):
            yield mine[number * self._batch : (number + 1) * self._batch]


def make_loader(
    dataset: TrainingSet, batches: Batches, workers: int | None, pin: bool
) -> DataLoader[Batch]:
    """Return a loader that prepares batches in `workers` processes, or in this one if 0."""
    if workers is None:
        workers = min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=_init_worker,
        multiprocessing_context="fork" if workers else None,
        # Else each epoch, and each going on after a stop, would draw from the numbers for dropout.
        generator=torch.Generator(),
    )


def _init_worker(_: int) -> None:
    cv2.setNumThreads(0)
    # Ctrl-C goes to all processes: the one that trains decides when the others end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def collate(samples: Sequence[tuple[Sample, NDArray[np.bool_]]]) -> Batch:
    """Put samples into a batch, their boxes padded to the largest number among them."""
    boxes, classes = _padded([(s.boxes, s.classes) for s, _ in samples], NOTHING)
    regions, ignored = _padded([(s.ignore_boxes, s.ignore_classes) for s, _ in samples], NO_REGION)
    pixels = torch.from_numpy(np.stack([sample.image for sample, _ in samples]))
    labelled = torch.from_numpy(np.stack([labelled for _, labelled in samples]))
    truth = Truth(boxes, classes, regions, ignored, labelled)
    return Batch(pixels.permute(0, 3, 1, 2), truth)


def _padded(
    pairs: list[tuple[NDArray[np.float32], NDArray[np.int64]]], nothing: int
) -> tuple[torch.Tensor, torch.Tensor]:
    most = max(len(classes) for _, classes in pairs)
    boxes = np.zeros((len(pairs), most, 4), np.float32)
    classes = np.full((len(pairs), most), nothing, np.int64)
    for row, (some, kinds) in enumerate(pairs):
        boxes[row, : len(kinds)] = some
        classes[row, : len(kinds)] = kinds
    return torch.from_numpy(boxes), torch.from_numpy(classes)
