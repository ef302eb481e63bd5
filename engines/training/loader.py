"""Load batches of training pictures, which other processes prepare during the training."""

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

from squeezedrive.engines.errors import DatasetError
from squeezedrive.engines.training.augment import Sample
from squeezedrive.engines.training.data import Key, TrainingSet
from squeezedrive.engines.training.targets import NO_REGION, NOTHING, Truth

MAX_WORKERS = 16


@dataclass(frozen=True)
class TrainingBatch:
    """Pictures uint8 (B, 3, H, W), channels last in memory, and their labels."""

    pixels: torch.Tensor
    truth: Truth

    def pin_memory(self) -> TrainingBatch:
        """Lock the pixels in memory, so that a GPU can copy them directly."""
        return TrainingBatch(self.pixels.pin_memory(), self.truth)


class Batches:
    """The batches of one epoch for one of several processes, from batch `skip` on.

    All processes get the same number of full batches. The remaining pictures are left out; they
    differ in each epoch.

    Attributes
    ----------
    epoch : int
        The next epoch.
    skip : int
        The number of its batches that are already trained.
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
                " choose a smaller batch: --set batch=..."
            )

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[Key]]:
        mine = self._dataset.order(self.epoch)[self._rank :: self._world]
        for number in range(self.skip, self._length):
            yield mine[number * self._batch : (number + 1) * self._batch]


def make_loader(
    dataset: TrainingSet, batches: Batches, workers: int | None, pin: bool
) -> DataLoader[TrainingBatch | DatasetError]:
    """Return a loader that prepares batches in `workers` processes, or in this process if 0.

    The loader may yield an error in place of a batch; see `read_batches`.
    """
    if workers is None:
        workers = min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    return DataLoader(
        _Handed(dataset),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate_or_error,
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=_init_worker,
        multiprocessing_context="fork" if workers else None,
        # Without it, each epoch and each resumption would draw from the random numbers of dropout.
        generator=torch.Generator(),
    )


def read_batches(loader: DataLoader[TrainingBatch | DatasetError]) -> Iterator[TrainingBatch]:
    """Yield the batches of an epoch.

    Raises
    ------
    DatasetError
        If a picture cannot be used.
    """
    for batch in loader:
        if isinstance(batch, DatasetError):
            raise batch
        yield batch


class _Handed(Dataset[Any]):
    """Returns errors as values, because PyTorch would add the worker's traceback to the message."""

    def __init__(self, dataset: TrainingSet) -> None:
        self._dataset = dataset

    def __getitem__(self, key: Key) -> tuple[Sample, NDArray[np.bool_]] | DatasetError:
        try:
            return self._dataset[key]
        except DatasetError as error:
            return error


def _collate_or_error(
    samples: Sequence[tuple[Sample, NDArray[np.bool_]] | DatasetError],
) -> TrainingBatch | DatasetError:
    good = []
    for sample in samples:
        if isinstance(sample, DatasetError):
            return sample
        good.append(sample)
    return collate(good)


def _init_worker(_: int) -> None:
    cv2.setNumThreads(0)
    # Ctrl-C and the closing of a terminal reach all processes; the process that trains ends the
    # others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def collate(samples: Sequence[tuple[Sample, NDArray[np.bool_]]]) -> TrainingBatch:
    """Combine samples into a batch; boxes are padded to the largest number in a sample."""
    boxes, classes = _padded([(s.boxes, s.classes) for s, _ in samples], NOTHING)
    regions, ignored = _padded([(s.ignore_boxes, s.ignore_classes) for s, _ in samples], NO_REGION)
    pixels = torch.from_numpy(np.stack([sample.image for sample, _ in samples]))
    labelled = torch.from_numpy(np.stack([labelled for _, labelled in samples]))
    truth = Truth(boxes, classes, regions, ignored, labelled)
    return TrainingBatch(pixels.permute(0, 3, 1, 2), truth)


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
