"""Open data sets in any of the four layouts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from squeezedrive.engines.datasets.coco import coco_pictures, load_coco
from squeezedrive.engines.datasets.dataset import Dataset, DatasetLayout, class_key
from squeezedrive.engines.datasets.images import is_image
from squeezedrive.engines.datasets.kitti import kitti_pictures, load_kitti
from squeezedrive.engines.datasets.tidy import TidyDataset, tidy
from squeezedrive.engines.datasets.voc import annotation_folder, load_voc, voc_pictures
from squeezedrive.engines.datasets.yolo import load_yolo, yolo_pictures
from squeezedrive.engines.errors import DatasetError
from squeezedrive.engines.files import without_hidden

log = logging.getLogger("squeezedrive")

EXPECTED = (
    "expected training/image_2 and ImageSets/ (KITTI), annotations/ with JSON (COCO) or XML (Pascal"
    " VOC), or data.yaml (YOLO)"
)


def load_dataset(
    root: str | Path,
    split: str,
    classes: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    faults: list[DatasetError] | None = None,
) -> Dataset:
    """Read the labels of a split; pictures are not decoded.

    Parameters
    ----------
    root : str or Path
        The data set's folder, in KITTI (`training/`, `ImageSets/`), COCO (`annotations/` with
        JSON), Pascal VOC (`annotations/` with XML) or YOLO layout (`data.yaml`, `data.yml` or one
        other YAML file, which may also be named itself).
    split : str
        "train", "val", or another name that the data set has for a split.
    classes : sequence of str or None
        The classes to read, in the order of their indices; capitals and `_` for a space do not
        matter. Objects of other classes are left out. None takes all classes that the data set
        declares; in KITTI and Pascal VOC layout, all classes labelled in this split.
    names : mapping of str to str or None
        Other names in the data set and the classes that they stand for, as {"person":
        "pedestrian"}; "dontcare" stands for objects that are neither right nor wrong.
    faults : list of DatasetError or None
        Errors in single pictures and labels are added to this list, those pictures and labels are
        left out, and nothing is logged. With None, the first such error is raised.

    Returns
    -------
    Dataset
        In KITTI layout, DontCare regions are ignored for every class; vans are neighbours of cars,
        and sitting persons of pedestrians, unless they are asked for by name. In COCO layout,
        crowds are ignored for their class. Boxes without area, boxes outside their picture and
        duplicate labels are left out, and their number is logged.

    Raises
    ------
    DatasetError
        If the layout is none of the four, the split does not exist, none of the classes is
        labelled, one of the names is not in the data set, or a file is missing or damaged.
    """
    return load_datasets([root], split, classes, names, faults)[0]


def load_datasets(
    roots: Sequence[str | Path],
    split: str,
    classes: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    faults: list[DatasetError] | None = None,
) -> list[Dataset]:
    """Read several data sets as `load_dataset` does; each name must occur in one of them."""
    datasets = [_load(Path(root), split, classes, names or {}, faults) for root in roots]
    there = list(dict.fromkeys(name for dataset in datasets for name in dataset.names))
    keys = set(map(class_key, there))
    for name in names or {}:
        if class_key(name) not in keys:
            raise DatasetError(
                f"{', '.join(map(str, roots))}: names: {name}: no object has this name; there are"
                f" {', '.join(there)}"
            )
    if faults is not None:
        return datasets  # untouched, because the caller looks for mistakes
    tidied = [tidy(dataset) for dataset in datasets]
    for one in tidied:
        _report(one)
    return [one.dataset for one in tidied]


def set_names(datasets: Sequence[Dataset], roots: Sequence[str | Path]) -> list[str]:
    """Return short, distinct names: the shortest distinct end of each data set's path.

    Parameters
    ----------
    roots : sequence of str or Path
        The path that each was loaded from; it matters for several descriptions in one folder.

    Raises
    ------
    DatasetError
        If a data set occurs twice.
    """
    places = [dataset.root.resolve() for dataset in datasets]
    if len(set(places)) < len(places):
        places = [Path(root).resolve() for root in roots]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise DatasetError(f"{place}: expected different data sets, got this one twice")
    return [_short_name(place, places) for place in places]


def _short_name(place: Path, places: Sequence[Path]) -> str:
    others = [other.parts for other in places if other != place]
    for count in range(1, len(place.parts)):
        tail = place.parts[-count:]
        if all(other[-count:] != tail for other in others):
            return "/".join(tail)
    return str(place)


def _load(
    root: Path,
    split: str,
    classes: Sequence[str] | None,
    names: Mapping[str, str],
    faults: list[DatasetError] | None,
) -> Dataset:
    if classes is not None and not classes:
        raise DatasetError("expected at least one class name, got none")
    match _layout(root):
        case "kitti":
            return load_kitti(root, split, classes, names, faults)
        case "voc":
            return load_voc(root, split, classes, names, faults)
        case "coco":
            return load_coco(root, split, classes, names, faults)
        case "yolo":
            return load_yolo(_description(root), split, classes, names, faults)
        case None:
            raise DatasetError(f"{root}: no data set; {EXPECTED}")


def load_pictures(root: str | Path, split: str) -> list[Path]:
    """Return the pictures of a split, labelled or not.

    Parameters
    ----------
    root : str or Path
        A data set as for `load_dataset`, or any folder with pictures in it or below it; these are
        all split "train".

    Raises
    ------
    DatasetError
        If the split does not exist, has no pictures, or lists a picture that is missing.
    """
    root = Path(root)
    layout = _layout(root)
    if layout == "kitti" and (root / "ImageSets").is_dir():
        return list(kitti_pictures(root, split).values())
    if layout == "voc":
        return list(voc_pictures(root, split).values())
    if layout == "coco":
        return coco_pictures(root, split)
    if layout == "yolo":
        return yolo_pictures(_description(root), split)
    pictures = sorted(path for path in root.rglob("*") if is_image(path))
    if not pictures:
        raise DatasetError(f"{root}: no pictures and no data set; {EXPECTED}")
    if split != "train":
        raise DatasetError(
            f"{root}: no split {split!r}; pictures that no file puts into splits are split train"
        )
    return pictures


def _report(tidied: TidyDataset) -> None:
    """Log the number of labels that are not used, because nothing else would show it."""
    dataset = tidied.dataset
    where = f"{dataset.root}, {dataset.split}"
    flat = sum(len(item.without_area) for item in dataset.items)
    for what, count in (
        ("boxes without area, left out", flat),
        ("boxes outside the picture, left out", tidied.outside),
        ("objects labelled twice, used once", tidied.double),
    ):
        if count:
            log.warning("%s: %s: %d", where, what, count)
    left_out = dataset.left_out()
    if left_out:
        counts = ", ".join(f"{name} {count}" for name, count in left_out.items())
        log.info("%s: objects not asked for are background: %s", where, counts)


def _layout(root: Path) -> DatasetLayout | None:
    if not root.exists():
        raise DatasetError(f"{root}: no such data set")
    # The folder "training" alone decides nothing: YOLO's pictures may lie in any folder.
    if any((root / "training" / name).is_dir() for name in ("image_2", "label_2")):
        return "kitti"
    if annotation_folder(root) is not None:
        return "voc"
    if without_hidden((root / "annotations").glob("*.json")):
        return "coco"
    return "yolo" if root.is_file() or _yaml_files(root) else None


def _yaml_files(root: Path) -> list[Path]:
    files = without_hidden(root.glob("*.y*ml"))
    return sorted(path for path in files if path.suffix in (".yaml", ".yml"))


def _description(root: Path) -> Path:
    """Return the YAML file of a data set in YOLO layout."""
    if root.is_file():
        return root
    for name in ("data.yaml", "data.yml"):
        if (root / name).is_file():
            return root / name
    files = _yaml_files(root)
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DatasetError(f"{root}: several YAML files; give one of {names} as the data set")
    return files[0]
