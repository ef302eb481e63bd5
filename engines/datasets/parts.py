"""Parts of a split that are evaluated by themselves, such as its pictures at night."""

from __future__ import annotations

import logging

from squeezedrive.engines.datasets.dataset import Dataset
from squeezedrive.engines.datasets.images import without_suffix
from squeezedrive.engines.datasets.text import read_text

log = logging.getLogger("squeezedrive")


def split_parts(dataset: Dataset) -> dict[str, list[int]]:
    """Return the parts of a data set in KITTI layout by name, as indices of its pictures.

    A part is a list in ImageSets whose name is that of the split with a hyphen and a suffix:
    `val-night.txt` beside `val.txt`. A list with pictures that are not in the split is left out
    with a warning.

    Raises
    ------
    DatasetError
        If a list cannot be read.
    """
    if dataset.layout != "kitti":
        return {}
    numbers = {item.image.stem: number for number, item in enumerate(dataset.items)}
    parts = {}
    for path in sorted((dataset.root / "ImageSets").glob(f"{dataset.split}-*.txt")):
        lines = map(str.strip, read_text(path).splitlines())
        names = [without_suffix(line) for line in lines if line]
        strange = [name for name in names if name not in numbers]
        if strange:
            log.warning(
                "%s: not reported as a part of %s: %s is not in %s.txt",
                path, dataset.split, strange[0], dataset.split,
            )  # fmt: skip
        elif names:
            parts[path.stem] = [numbers[name] for name in dict.fromkeys(names)]
    return parts
