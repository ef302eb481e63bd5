"""Opens a data set in whichever of the four layouts it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from engines.datasets.coco import load_coco
from engines.datasets.dataset import Dataset, DatasetError
from engines.datasets.kitti import load_kitti
from engines.datasets.voc import annotation_folder, load_voc
from engines.datasets.yolo import load_yolo


def load_dataset(
    root: str | Path,
    split: str,
    classes: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
) -> Dataset:
    """Read the labels of a split; pictures are not decoded.

    Parameters
    ----------
    root : str or Path
        The data set's folder, in KITTI (`training/`, `ImageSets/`), COCO (`annotations/` with
        JSON), Pascal VOC (`annotations/` with XML) or YOLO layout (`data.yaml` or one other YAML
        file, which may also be named itself).
    split : str
        "train", "val", or what the data set calls its parts.
    classes : sequence of str or None
        The classes wanted, in the order of their indices; capitals and `_` for a space do not
        matter. Objects of other classes are left out. None takes all that the data set declares;
        in KITTI and Pascal VOC layout, all that are labelled in this split.
    names : mapping of str to str or None
        Other names in the data set and the classes they stand for, as {"person": "pedestrian"};
        "dontcare" stands for objects that are neither right nor wrong.

    Returns
    -------
    Dataset
        In KITTI layout, DontCare regions are to be ignored for every class, vans are neighbours of
        cars and sitting persons of pedestrians unless they are asked for by name; in COCO layout,
        crowds are to be ignored for their class.

    Raises
    ------
    DatasetError
        If the layout is none of the four, there is no such split, none of the classes is
        labelled, or a file is missing or damaged.
    """
    root = Path(root)
    if classes is not None and not classes:
        raise DatasetError("expected at least one class name, got none")
    if not root.exists():
        raise DatasetError(f"{root}: no such data set")
    if (root / "training").is_dir():
        return load_kitti(root, split, classes, names or {})
    if annotation_folder(root) is not None:
        return load_voc(root, split, classes, names or {})
    if (root / "annotations").is_dir():
        return load_coco(root, split, classes, names or {})
    return load_yolo(_description(root), split, classes, names or {})


def _description(root: Path) -> Path:
    """Return the YAML file of a data set in YOLO layout."""
    if root.is_file():
        return root
    if (root / "data.yaml").is_file():
        return root / "data.yaml"
    files = sorted(root.glob("*.yaml"))
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(file.name for file in files)
        raise DatasetError(f"{root}: several YAML files, name one of {names} as the data set")
    raise DatasetError(
        f"{root}: no data set; expected training/ and ImageSets/ (KITTI), annotations/ (COCO,"
        " Pascal VOC) or data.yaml (YOLO)"
    )
