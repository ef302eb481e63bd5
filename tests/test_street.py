"""The rendered street: its name, pictures and truth, and the data sets made from them."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from squeezedrive.engines.datasets.load import load_dataset
from squeezedrive.pipeline.core.errors import SourceError
from tests.street.__main__ import main
from tests.street.clip import write_clip
from tests.street.data import labels_of_street
from tests.street.layout import CROSSING, crossing_at
from tests.street.spec import StreetSpec, parse_street
from tests.street.street import SMALLEST, Street, TruthBox
from tests.street.traffic import SPEED, STREAMS, Traffic

SMALL = "street:size=320x180"


@pytest.fixture(scope="module")
def street() -> Street:
    return Street(parse_street(SMALL))


@pytest.fixture(scope="module")
def large() -> Street:
    return Street(parse_street("street:size=960x540"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("street:", StreetSpec()),
        ("street:size=641x359,seed=7", StreetSpec(width=641, height=359, seed=7)),
        ("street:fps=30000/1001", StreetSpec(fps=Fraction(30000, 1001), frames=300)),
        ("street:fps=29.97,seconds=100", StreetSpec(fps=Fraction(2997, 100), frames=2997)),
        ("street: fps=12.5 , seconds=2.5", StreetSpec(fps=Fraction(25, 2), frames=31)),
        ("street:frames=20000", StreetSpec(frames=20000)),
        ("street:seconds=0.001", StreetSpec(frames=1)),
    ],
)
def test_parses_specifications(text: str, expected: StreetSpec) -> None:
    assert parse_street(text) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("street:sise=640x360", ["'sise'", "did you mean 'size'"]),
        ("street:second=3", ["'second'", "did you mean 'seconds'"]),
        ("street:frame=3", ["'frame'", "did you mean 'frames'"]),
        ("street:size", ["size=VALUE"]),
        ("street:size=640", ["size", "WIDTHxHEIGHT", "'640'"]),
        ("street:size=8x9000", ["size", "'8x9000'"]),
        ("street:fps=0", ["fps", "'0'"]),
        ("street:fps=30/0", ["fps", "'30/0'"]),
        ("street:fps=fast", ["fps", "'fast'"]),
        ("street:fps=1e999999", ["fps"]),
        ("street:seconds=-1", ["seconds", "'-1'"]),
        ("street:seconds=nan", ["seconds", "'nan'"]),
        ("street:frames=2.5", ["frames", "whole number", "'2.5'"]),
        ("street:frames=0", ["frames", "'0'"]),
        ("street:seed=-1", ["seed", "'-1'"]),
        ("street:seed=1,seed=2", ["seed", "twice"]),
        ("street:frames=3,seconds=1", ["seconds and frames"]),
        ("scene:", ["street:", "'scene:'"]),
    ],
)
def test_parse_errors_name_the_wrong_part(text: str, named: list[str]) -> None:
    with pytest.raises(SourceError) as caught:
        parse_street(text)
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in named), message


def test_the_same_seed_gives_the_same_pixels(street: Street) -> None:
    again = Street(parse_street(SMALL))
    for index in (0, 7):
        np.testing.assert_array_equal(street.render(index), again.render(index))
        assert street.truth(index) == again.truth(index)


def test_another_seed_gives_another_street(street: Street) -> None:
    other = Street(parse_street(SMALL + ",seed=1"))
    assert np.mean(street.render(5) != other.render(5)) > 0.5
    assert street.truth(5) != other.truth(5)


def test_frames_do_not_depend_on_the_order_of_rendering(street: Street) -> None:
    indexes = [0, 1, 2, 40, 41, 299]
    forward = {index: street.render(index) for index in indexes}
    fresh = Street(parse_street(SMALL))
    for index in (41, 299, 2, 0, 40, 1):
        np.testing.assert_array_equal(fresh.render(index), forward[index])


def test_the_picture_changes_over_time(street: Street) -> None:
    first, second = street.render(10), street.render(11)
    assert not np.shares_memory(first, second)
    assert np.mean(first != second) > 0.3


@pytest.mark.parametrize("size", ["33x17", "16x16", "641x359", "1248x384", "180x320", "100x16"])
def test_renders_any_size(size: str) -> None:
    width, height = (int(side) for side in size.split("x"))
    street = Street(parse_street(f"street:size={size}"))
    for index in (0, 100):
        image = street.render(index)
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image.std() > 10
        _check(street.truth(index), width, height)


def _check(boxes: tuple[TruthBox, ...], width: int, height: int) -> None:
    """Check rules that all true boxes follow."""
    assert len({box.track_id for box in boxes}) == len(boxes)
    for box in boxes:
        x1, y1, x2, y2 = box.box
        assert 0 <= x1 < x2 <= width - 1
        assert 0 <= y1 < y2 <= height - 1
        assert y2 - y1 >= SMALLEST
        assert box.name in ("car", "pedestrian", "cyclist")
        assert 0 <= box.truncated < 1
        assert 0 <= box.occluded < 1


def test_true_boxes_fit_the_drawn_pixels(large: Street) -> None:
    checked: Counter[str] = Counter()
    for index in (30, 120):
        full = large.render(index).astype(int)
        for box in large.truth(index):
            if box.occluded > 0:
                continue
            without = large.render(index, hidden={box.track_id}).astype(int)
            rows, columns = np.nonzero(np.abs(full - without).max(axis=2) > 2)
            drawn = (columns.min(), rows.min(), columns.max(), rows.max())
            np.testing.assert_allclose(drawn, box.box, atol=2, err_msg=f"{box} in {index}")
            checked[box.name] += 1
    assert set(checked) == {"car", "pedestrian", "cyclist"}, checked


def test_the_truth_reports_occlusion_and_truncation(large: Street) -> None:
    boxes = [box for index in range(0, 300, 25) for box in large.truth(index)]
    assert any(box.occluded > 0.5 for box in boxes)
    cut = [box for box in boxes if box.truncated > 0]
    assert cut
    for box in cut:
        x1, _, x2, y2 = box.box
        assert x1 == 0 or x2 == 959 or y2 == 539
    for box in boxes:
        if box.truncated == 0:
            assert 0 < box.box[0] < box.box[2] < 959


def test_occlusion_is_the_share_of_hidden_pixels(large: Street) -> None:
    """Compare the pixels that an object changes with those that it changes in an empty street."""
    index = 60
    boxes = large.truth(index)
    everybody = {box.track_id for box in boxes}
    target = max((box for box in boxes if 0.2 < box.occluded < 0.8), key=lambda box: box.box[3])
    full = large.render(index).astype(int)
    rest = np.abs(full - large.render(index, hidden={target.track_id})).max(axis=2) > 2
    alone = large.render(index, hidden=everybody - {target.track_id}).astype(int)
    whole = np.abs(alone - large.render(index, hidden=everybody)).max(axis=2) > 2
    assert 1 - rest.sum() / whole.sum() == pytest.approx(target.occluded, abs=0.1)


def test_every_class_appears_in_the_default_street() -> None:
    street = Street(parse_street("street:size=640x360"))
    seen = Counter(
        box.name
        for index in range(0, 300, 30)
        for box in street.truth(index)
        if box.occluded < 0.3 and box.box[3] - box.box[1] > 25
    )
    assert set(seen) == {"car", "pedestrian", "cyclist"}
    assert min(seen.values()) >= 5, seen


def test_objects_move_smoothly(large: Street) -> None:
    """Boxes do not jump, and new boxes in the middle of the picture are small or occluded."""
    before = {box.track_id: box for box in large.truth(0)}
    for index in range(1, 60):
        now = {box.track_id: box for box in large.truth(index)}
        for track_id, box in now.items():
            x1, y1, x2, y2 = box.box
            if track_id not in before:
                at_edge = x1 < 40 or x2 > 959 - 40
                assert at_edge or y2 - y1 < 30 or box.occluded > 0.5, (index, box)
            elif box.truncated == 0 == before[track_id].truncated:
                shift = np.abs(np.subtract(box.box, before[track_id].box)).max()
                assert shift < 0.35 * max(x2 - x1, y2 - y1), (index, box)
        before = now


def test_crossing_people_do_not_collide_with_cars() -> None:
    walkers = {len(STREAMS) + 1, len(STREAMS) + 2}
    crossed = 0
    for seed in range(4):
        traffic = Traffic(seed)
        for tick in range(0, 600):
            actors = traffic.at(tick / 10)
            for walker in actors:
                if walker.track_id % 16 not in walkers or not -5 < walker.x < 1.7:
                    continue
                crossed += 1
                for car in actors:
                    if car.model.name == "car" and abs(car.x - walker.x) < car.model.width / 2:
                        assert abs(car.z - walker.z) > car.model.length / 2, (seed, tick)
                assert walker.z > 10 or walker.x < -2
    assert crossed > 100


def test_crossings_are_free_of_parked_cars() -> None:
    traffic = Traffic(0)
    for tick in range(0, 400, 10):
        for actor in traffic.at(tick / 10):
            if actor.model.name == "car" and abs(actor.x) > 4:  # parked
                place = (actor.z + SPEED * tick / 10 - crossing_at(0)) % CROSSING
                assert min(place, CROSSING - place) > 3


def test_an_endless_street_uses_bounded_memory() -> None:
    street = Street(parse_street("street:size=64x36,fps=1"))
    for index in (10**6, 10**9):
        assert street.render(index).std() > 10
        _check(street.truth(index), 64, 36)
    traffic = Traffic(0)
    for second in range(0, 1000, 10):
        list(traffic._members(5, STREAMS[5], float(second)))
    info = traffic._member.cache_info()
    assert info.maxsize is not None
    assert info.misses > info.maxsize >= info.currsize


def test_hidden_or_small_objects_are_ignored_in_labels() -> None:
    there = [
        TruthBox(1, "car", (1, 2, 50, 40), 0.2, 0.0),
        TruthBox(2, "cyclist", (1, 2, 20, 40), 0.0, 0.3),
        TruthBox(3, "pedestrian", (1, 2, 20, 40), 0.0, 0.8),
        TruthBox(4, "pedestrian", (1, 2, 5, 12), 0.0, 0.0),
    ]
    labels = labels_of_street(there)
    assert [label.name for label in labels] == ["Car", "Cyclist", "DontCare", "DontCare"]
    assert [label.occluded for label in labels[:2]] == [0, 1]
    assert labels[0].line().split()[:2] == ["Car", "0.20"]
    assert len(labels[0].line().split()) == 15


def test_streets_can_be_written_as_a_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, name = tmp_path / "street", "street:size=320x180,seed=3,frames=40"
    assert main(["data", str(out), name, name, "--every", "15", "--frames", "2"]) == 0
    assert f"wrote {out}: 4 pictures" in capsys.readouterr().out
    dataset = load_dataset(out, "train", ("car", "pedestrian", "cyclist"))
    assert [item.image.stem for item in dataset.items] == [
        "00_000000", "00_000015", "01_000000", "01_000015",
    ]  # fmt: skip
    street = Street(parse_street(name))
    image = cv2.imread(str(dataset.items[1].image))
    assert image is not None
    assert np.abs(image.astype(int) - street.render(15)).mean() < 4
    wanted = [label for label in labels_of_street(street.truth(15)) if label.name != "DontCare"]
    np.testing.assert_allclose(
        dataset.items[1].labels.boxes, [label.box for label in wanted], atol=0.01
    )
    assert len(wanted) > 0
    assert main(["data", str(out), name]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["data", str(tmp_path / "other"), "street:wheels=3"]) == 2
    assert "unknown key 'wheels'" in capsys.readouterr().err


def test_a_clip_is_the_same_each_time_and_has_sound(tmp_path: Path) -> None:
    spec = StreetSpec(64, 36, Fraction(25), 30, seed=3)
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, spec, first=50, crf=10, sound=True)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
        (audio,) = container.streams.audio
        assert float(audio.duration * audio.time_base) == pytest.approx(1.2, abs=0.05)
    assert len(frames) == 30
    assert np.abs(frames[7].astype(int) - Street(spec).render(57)).mean() < 8
