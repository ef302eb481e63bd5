"""Training pictures: boxes follow the picture, and a seed always gives the same picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="training needs PyTorch: pip install -e '.[train]'")

from squeezedrive.engines.datasets.dataset import EVERY_CLASS
from squeezedrive.engines.errors import DatasetError
from squeezedrive.engines.training.augment import Sample, change_light
from squeezedrive.engines.training.config import AugmentConfig, load_train_config
from squeezedrive.engines.training.data import TrainingSet
from squeezedrive.engines.training.loader import Batches, collate, make_loader, read_batches
from squeezedrive.engines.training.targets import NO_REGION, NOTHING
from tests.support.rectangles import COLOURS, PLAIN, SIZE, small, write_kitti, write_yolo


def training_set(*roots: Path, augment: dict[str, Any] | None = None, **keys: Any) -> TrainingSet:
    changed = {f"augment.{k}": v for k, v in {**PLAIN, **(augment or {})}.items()}
    return TrainingSet(load_train_config(None, [*small(*roots, **keys), *changed.items()]))


def measured_box(image: NDArray[np.uint8], index: int) -> list[int]:
    """Return the corners x1, y1, x2, y2 of the pixels in the colour of a class."""
    near = np.abs(image.astype(int) - COLOURS[index]).max(axis=2) < 60
    y, x = np.nonzero(near)
    return [x.min(), y.min(), x.max(), y.max()]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("kitti") / "set", 6)


def test_sample_without_changes_is_the_labelled_picture(root: Path) -> None:
    data = training_set(root)
    sample, labelled = data[0, 0, 0]
    assert sample.image.shape == (SIZE[1], SIZE[0], 3)
    np.testing.assert_array_equal(sample.boxes, data.parts[0].dataset.items[0].labels.boxes)
    assert sample.classes.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(sample.ignore_boxes, [[300, 0, 319, 20]])
    assert sample.ignore_classes.tolist() == [EVERY_CLASS]
    assert labelled.tolist() == [True, True, True]


@pytest.mark.parametrize(
    "augment",
    [
        {"flip": 1},
        {"drift": [60, 30]},
        {"zoom": [0.6, 1.6], "aspect": 0.3},
        {"window": [128, 64], "zoom": [0.7, 1.5]},
        {"window": [128, 64], "aim": 1, "flip": 0.5, "drift": [20, 20]},
    ],
    ids=["flip", "drift", "zoom", "window", "aim"],
)
def test_boxes_follow_the_picture(root: Path, augment: dict[str, Any]) -> None:
    data = training_set(root, augment={"min_visible": 0.01, **augment})
    compared = 0
    for position in range(12):
        sample, _ = data[0, position, position % 6]
        for index in range(3):
            boxes = sample.boxes[sample.classes == index]
            if len(boxes) == 1 and np.prod(boxes[0, 2:] - boxes[0, :2]) > 100:
                np.testing.assert_allclose(measured_box(sample.image, index), boxes[0], atol=2.5)
                compared += 1
    assert compared >= 8


def test_mosaic_shows_four_pictures_with_their_boxes(root: Path) -> None:
    data = training_set(root, augment={"mosaic": 1, "zoom": [0.8, 1.2], "flip": 0.5})
    for position in range(6):
        sample, _ = data[0, position, position]
        assert sample.image.shape == (SIZE[1], SIZE[0], 3)
        assert len(sample.boxes) > 3
        for box, index in zip(sample.boxes, sample.classes, strict=True):
            x1, y1, x2, y2 = (int(value) for value in box.round())
            inside = sample.image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].astype(int)
            assert (np.abs(inside - COLOURS[index]).max(axis=2) < 60).all()


def test_aimed_windows_show_rare_classes(root: Path) -> None:
    data = training_set(root, augment={"window": [64, 48], "aim": 1, "min_visible": 0.5})
    seen = np.zeros(3, int)
    for position in range(60):
        sample, _ = data[0, position, position % 6]
        seen[np.unique(sample.classes)] += 1
    assert seen.min() >= 8


def test_ignores_objects_that_are_cut_off_or_too_small(root: Path) -> None:
    cut = training_set(root, augment={"window": [64, 48], "min_visible": 0.99})
    small_ones = training_set(root, augment={"min_size": 25})
    sample, _ = small_ones[0, 0, 0]
    assert sample.classes.tolist() == [0, 2]  # the pedestrian, 18 px wide, is too small
    assert sorted(sample.ignore_classes.tolist()) == [EVERY_CLASS, 1]
    ignored = 0
    for position in range(20):
        sample, _ = cut[0, position, position % 6]
        assert (sample.boxes >= 0).all()
        assert (sample.boxes <= [63, 47, 63, 47]).all()
        ignored += (sample.ignore_classes >= 0).sum()
        assert (sample.ignore_boxes[:, 2:] > sample.ignore_boxes[:, :2]).all()
    assert ignored > 5


def test_boxes_reach_beyond_the_window(root: Path) -> None:
    plain = {"window": [64, 48], "aim": 1, "zoom": [1.5, 1.5]}
    near, far = (
        training_set(root, augment=plain, **{"network.output.reach": reach}) for reach in (0, 30)
    )
    cut = 0
    for position in range(20):
        (clipped, _), (whole, _) = (data[0, position, position % 6] for data in (near, far))
        np.testing.assert_array_equal(clipped.image, whole.image)
        assert clipped.classes.tolist() == whole.classes.tolist()
        assert (whole.boxes >= -30).all()
        assert (whole.boxes <= [93, 77, 93, 77]).all()
        np.testing.assert_array_equal(np.clip(whole.boxes, 0, [63, 47, 63, 47]), clipped.boxes)
        cut += (whole.boxes != clipped.boxes).any(axis=1).sum()
    assert cut > 5


def test_boxes_of_a_mosaic_end_at_its_seams(root: Path) -> None:
    mosaic = {"mosaic": 1, "zoom": [1.5, 1.5]}
    near, far = (
        training_set(root, augment=mosaic, **{"network.output.reach": reach}) for reach in (0, 30)
    )
    for position in range(6):
        (clipped, _), (whole, _) = (data[0, position, position] for data in (near, far))
        np.testing.assert_array_equal(clipped.boxes, whole.boxes)


def test_neighbours_are_regions_to_ignore_for_their_class(tmp_path: Path) -> None:
    folder = write_kitti(tmp_path / "set", 1)
    path = folder / "training/label_2/000000.txt"
    path.write_text(path.read_text().replace("Car ", "Van "))
    sample, labelled = training_set(folder)[0, 0, 0]
    assert sample.classes.tolist() == [1, 2]
    assert sample.ignore_classes.tolist() == [0, EVERY_CLASS]
    assert labelled.tolist() == [False, True, True]


def test_same_seed_gives_the_same_sample(root: Path) -> None:
    wild = {"zoom": [0.7, 1.5], "flip": 0.5, "night": 0.5, "jpeg": 0.5, "hue": 10, "mosaic": 0.5}
    first, again = (training_set(root, augment=wild) for _ in range(2))
    other = training_set(root, augment=wild, seed=7)
    differ = 0
    for key in [(0, 0, 0), (0, 1, 0), (3, 5, 2)]:
        a, b, c = (data[key][0] for data in (first, again, other))
        for name in vars(a):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        differ += a.image.tolist() != c.image.tolist()
    assert differ == 3
    assert first[0, 0, 0][0].image.tolist() != first[1, 0, 0][0].image.tolist()


def test_changes_light_within_limits() -> None:
    image = np.full((32, 48, 3), 128, np.uint8)
    image[:16] = (200, 60, 60)

    def config(**keys: Any) -> AugmentConfig:
        return AugmentConfig(window=None, **{**PLAIN, **keys})  # type: ignore[arg-type]

    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(change_light(image, config(), rng), image)
    for _ in range(10):
        grey = change_light(image, config(saturation=0.9, hue=30), rng)[16:]
        np.testing.assert_allclose(grey, 128, atol=1)  # grey has no saturation or hue
        brighter = change_light(image, config(brightness=0.1), rng).astype(int) - image
        assert abs(brighter).max() <= 26
        assert change_light(image, config(night=1), rng).mean() < 0.75 * image.mean()
    assert image[0, 0].tolist() == [200, 60, 60]


def test_compresses_pictures_as_jpeg() -> None:
    """At the qualities 25 to 90, a picture gets blocks and rings but stays similar."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.repeat(rng.integers(0, 256, (8, 12, 3)), 8, axis=0), 8, axis=1)
    image = image.astype(np.uint8)
    config = AugmentConfig(window=None, **{**PLAIN, "jpeg": 1})  # type: ignore[arg-type]
    errors = []
    for _ in range(20):
        changed = change_light(image, config, rng)
        assert changed.shape == image.shape
        errors.append(np.abs(changed.astype(int) - image).mean())
    assert 0.5 < min(errors) < 0.6 * max(errors)  # the qualities differ
    assert max(errors) < 40


def test_sample_says_which_classes_its_set_labels(tmp_path: Path, root: Path) -> None:
    cars = write_kitti(tmp_path / "cars", 3, classes=(0,))
    data = training_set(root, cars)
    assert data[0, 0, 0][1].tolist() == [True, True, True]
    assert data[0, 0, 7][1].tolist() == [True, False, False]
    said = [{"root": str(cars), "labelled": ["car", "Cyclist"]}]
    assert training_set(data__sets=said)[0, 0, 0][1].tolist() == [True, False, True]
    with pytest.raises(DatasetError, match="expected some of car, pedestrian, cyclist, got 'bus'"):
        training_set(data__sets=[{"root": str(cars), "labelled": ["bus"]}])


def test_order_draws_from_each_set_by_its_weight(tmp_path: Path, root: Path) -> None:
    sets = [{"root": str(root)}, {"root": str(write_kitti(tmp_path / "b", 4)), "weight": 2.5}]
    data = training_set(data__sets=sets)
    order = data.order(0)
    counts = np.bincount([index for _, _, index in order], minlength=10)
    assert counts[:6].tolist() == [1] * 6
    assert counts[6:].sum() == 10
    assert counts[6:].min() >= 2
    assert order == data.order(0)
    assert [key[2] for key in order] != [key[2] for key in data.order(1)]


def test_processes_share_the_batches_and_can_skip_some(root: Path) -> None:
    data = training_set(root)
    both = [Batches(data, 1, rank, 2) for rank in range(2)]
    keys = [batch[0] for batches in both for batch in batches]
    assert [len(batches) for batches in both] == [3, 3]
    assert sorted(index for _, _, index in keys) == list(range(6))
    late = Batches(data, 2, 0, 1)
    whole = list(late)
    late.skip = 2
    assert list(late) == whole[2:]
    with pytest.raises(DatasetError, match="6 pictures are fewer than a batch of 4 on 2"):
        Batches(data, 4, 0, 2)


def test_collate_pads_boxes_to_the_largest_number() -> None:
    def sample(objects: int, regions: int) -> Sample:
        return Sample(
            np.full((16, 32, 3), objects, np.uint8),
            np.full((objects, 4), objects, np.float32),
            np.full(objects, objects, np.int64),
            np.zeros((regions, 4), np.float32),
            np.zeros(regions, np.int64),
        )

    labelled = np.array([True, False, True])
    batch = collate([(sample(2, 0), labelled), (sample(0, 1), ~labelled)])
    assert tuple(batch.pixels.shape) == (2, 3, 16, 32)
    assert batch.truth.classes.tolist() == [[2, 2], [NOTHING, NOTHING]]
    assert batch.truth.ignore_classes.tolist() == [[NO_REGION], [0]]
    assert batch.truth.labelled.tolist() == [[True, False, True], [False, True, False]]


def test_worker_processes_give_the_same_batches(root: Path) -> None:
    data = training_set(root, augment={"flip": 0.5, "zoom": [0.8, 1.2]})
    here, there = (
        list(read_batches(make_loader(data, Batches(data, 3, 0, 1), workers, pin=False)))
        for workers in (0, 2)
    )
    assert len(here) == len(there) == 2
    for a, b in zip(here, there, strict=True):
        assert a.pixels.equal(b.pixels)
        assert a.truth.boxes.equal(b.truth.boxes)


def test_mirrored_box_stays_on_its_object(tmp_path: Path) -> None:
    """Boxes end at the edges of pixels in YOLO layout, at first and last pixels in KITTI layout."""
    yolo, kitti = write_yolo(tmp_path / "yolo", 1), write_kitti(tmp_path / "kitti", 1)
    data = training_set(
        yolo, kitti, augment={"flip": 1}, data__fit="stretch",
        network__output__classes=["car", "lorry"],
    )  # fmt: skip
    (sample, _), (other, _) = data[0, 0, 0], data[0, 0, 1]
    x1, y1, x2, y2 = measured_box(sample.image, 0)
    np.testing.assert_allclose(sample.boxes, [[x1, y1, x2 + 1, y2 + 1]], atol=1e-3)
    np.testing.assert_allclose(other.boxes, [measured_box(other.image, 0)], atol=1e-3)


def test_rejects_a_set_without_objects_to_learn(tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "set", 2, ("lorry", "bike", "car"))
    for path in (root / "labels").iterdir():  # remove all cars; the class stays declared
        path.write_text("\n".join(path.read_text().splitlines()[:2]))
    with pytest.raises(DatasetError) as caught:
        training_set(root, network__output__classes=["car"])
    message = str(caught.value)
    assert "split train has no object of car; there are lorry 2, bike 2, car 0" in message
    assert "network.output.classes" in message
    assert "\n" not in message
    # With `labelled`, a set without cars is valid: the network learns what is not a car.
    sets = [{"root": str(root), "labelled": ["car"]}]
    data = training_set(data__sets=sets, network__output__classes=["car"])
    assert data[0, 0, 0][1].tolist() == [True]


def test_error_about_missing_classes_names_the_setting(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"\(tram\) is labelled here.*network\.output\.classes"):
        training_set(root, network__output__classes=["tram"])
    with pytest.raises(DatasetError, match=r"no such split; there are train, val$"):
        training_set(data__sets=[{"root": str(root), "split": "test"}])


def test_a_set_describes_its_pictures_and_objects(root: Path) -> None:
    (part,) = training_set(root, network__output__classes=["car", "cyclist"]).parts
    assert str(part).startswith(f"{root}, train: 6 pictures, car 6, cyclist 6")


@pytest.mark.parametrize("workers", [0, 1])
def test_reports_a_bad_picture_in_one_line(tmp_path: Path, workers: int) -> None:
    data = training_set(write_kitti(tmp_path / "set", 2))
    picture = tmp_path / "set/training/image_2/000001.png"
    picture.write_bytes(picture.read_bytes()[:50])
    with pytest.raises(DatasetError) as caught:
        list(read_batches(make_loader(data, Batches(data, 2, 0, 1), workers, pin=False)))
    assert str(caught.value).startswith(f"{picture}: ")
    assert "\n" not in str(caught.value)
