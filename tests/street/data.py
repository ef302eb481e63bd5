"""Data sets of the street: frames with exact labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from squeezedrive.pipeline.dataset.labels import DONT_CARE, SMALLEST, KittiLabel
from squeezedrive.pipeline.dataset.layout import LabelledPicture, write_kitti_layout
from tests.street.spec import StreetSpec
from tests.street.street import Street, TruthBox


def write_dataset(out: Path, streets: Sequence[StreetSpec], every: int, frames: int | None) -> int:
    """Write each `every`th frame of streets, at most `frames` of each street; return the count.

    Raises
    ------
    DatasetError
        If the folder exists or cannot be written.
    """

    def pictures() -> Iterator[LabelledPicture]:
        for place, spec in enumerate(streets):
            street = Street(spec)
            for index in range(0, spec.frames, every)[:frames]:
                labels = labels_of_street(street.truth(index))
                yield f"{place:02d}_{index:06d}", street.render(index), labels

    return write_kitti_layout(out, pictures())


def labels_of_street(truth: Sequence[TruthBox]) -> list[KittiLabel]:
    """Turn the truth into labels; objects that are small or mostly hidden become DontCare."""
    labels = []
    for there in truth:
        hidden = there.occluded > 0.7 or there.box[3] - there.box[1] < SMALLEST
        occluded = 0 if there.occluded < 0.1 else 1 if there.occluded < 0.4 else 2
        name = DONT_CARE if hidden else there.name.capitalize()
        labels.append(KittiLabel(name, there.box, there.truncated, occluded))
    return labels
