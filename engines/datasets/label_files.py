"""The common part of the layouts with one label file for each picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from squeezedrive.engines.datasets.dataset import (
    DONT_CARE,
    Dataset,
    DatasetLayout,
    LabelledImage,
    class_key,
    label_indices,
    noted,
)
from squeezedrive.engines.errors import DatasetError
from squeezedrive.engines.files import without_hidden

Content = TypeVar("Content")


@dataclass(frozen=True)
class LabelFiles(Generic[Content]):
    """The way to read the label files of a layout.

    Attributes
    ----------
    layout : str
        Name of the layout.
    folder : Path
        The folder of the files, each of which has its picture's name.
    suffix : str
        The end of their names.
    read : callable
        Returns the content of a file.
    names : callable
        Returns the class of each object in a content, as `class_key`.
    item : callable
        Returns a labelled picture, given its file, the label file, that file's content and the
        class indices.
    neighbours : mapping of str to str
        Classes that count as neighbours of another class, unless they are asked for by name.
    """

    layout: DatasetLayout
    folder: Path
    suffix: str
    read: Callable[[Path], Content]
    names: Callable[[Content], Iterable[str]]
    item: Callable[[Path, Path, Content, Mapping[str, int]], LabelledImage]
    neighbours: Mapping[str, str] = field(default_factory=dict)

    def load(
        self,
        root: Path,
        split: str,
        pictures: Mapping[str, Path],
        classes: Sequence[str] | None,
        aliases: Mapping[str, str],
        faults: list[DatasetError] | None,
    ) -> Dataset:
        """Read the labels of some pictures; see `engines.datasets.load.load_dataset`."""
        paths = {name: self.folder / f"{name}{self.suffix}" for name in pictures}
        contents = {}
        for name, path in paths.items():
            with noted(faults):
                contents[name] = self.read(path)
        found = self._classes(contents.values())
        labelled = [name for name in found if name != DONT_CARE]
        if classes is None:
            others = {class_key(name) for name in aliases}
            others |= {name for name in labelled if self.neighbours.get(name) in labelled}
            classes = [name for name in labelled if name not in others]
        # A set may show only vans, from which a network learns what is not a car.
        there = [*labelled, *(self.neighbours.get(name, name) for name in labelled)]
        indices = label_indices(root, classes, aliases, there)
        items = []
        for name, content in contents.items():
            with noted(faults):
                items.append(self.item(pictures[name], paths[name], content, indices))
        if any(class_key(name) not in found for name in aliases):
            # A rare class may be missing in this split; only a name in no split at all is a
            # mistake.
            every = without_hidden(self.folder.glob(f"*{self.suffix}"))
            found = self._classes(map(self.read, every))
        return Dataset(root, split, self.layout, tuple(classes), tuple(items), tuple(found))

    def _classes(self, contents: Iterable[Content]) -> list[str]:
        return sorted({name for content in contents for name in self.names(content)})
