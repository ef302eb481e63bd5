import numpy as np
import pytest

from squeezedrive.engines.training.augment import Sample
from squeezedrive.engines.training.paste import DROP, paste

SIZE = (200, 120)


def window(colour: int, *objects: tuple[tuple[float, ...], int], ignored: int = 0) -> Sample:
    regions = [(0.0, 0.0, 199.0, 119.0)] * ignored
    return Sample(
        np.full((SIZE[1], SIZE[0], 3), colour, np.uint8),
        np.array([box for box, _ in objects], np.float32).reshape(-1, 4),
        np.array([index for _, index in objects], np.int64),
        np.array(regions, np.float32).reshape(-1, 4),
        np.full(ignored, -1, np.int64),
    )


@pytest.mark.parametrize("seed", range(10))
def test_pastes_an_object_with_its_pixels_and_its_box(seed: int) -> None:
    sample, donor = window(10), window(250, ((40, 30, 60, 80), 2), ((100, 30, 150, 60), 0))
    result = paste(sample, donor, 2, np.random.default_rng(seed))
    assert result.classes.tolist() == [2]
    x1, y1, x2, y2 = result.boxes[0].astype(int)
    assert (x2 - x1, y2 - y1) == (20, 50)
    assert abs(y1 - 30) <= DROP
    assert 0 <= x1 < x2 < SIZE[0]
    assert 0 <= y1 < y2 < SIZE[1]
    assert (result.image[y1 : y2 + 1, x1 : x2 + 1] == 250).all()  # opaque in the whole box
    changed = np.argwhere(result.image[..., 0] != 10)
    assert changed[:, 1].min() >= x1 - 7  # a margin of 0.3 of the width, and rounding
    assert changed[:, 1].max() <= x2 + 7
    assert (sample.image == 10).all()


def test_pastes_at_most_three_objects_of_the_class() -> None:
    boxes = [((20 * k + 2, 50, 20 * k + 12, 70), k % 2) for k in range(10)]
    result = paste(window(10), window(250, *boxes), 1, np.random.default_rng(0))
    assert result.classes.tolist() == [1, 1, 1]
    nothing = paste(window(10), window(250, *boxes), 2, np.random.default_rng(0))
    assert len(nothing.classes) == 0
    assert (nothing.image == 10).all()


@pytest.mark.parametrize("seed", range(20))
def test_hides_no_other_object(seed: int) -> None:
    mine = ((0, 0, 140, 119), 0)
    result = paste(
        window(10, mine), window(250, ((40, 30, 60, 80), 1)), 1, np.random.default_rng(seed)
    )
    assert result.classes.tolist() in ([0], [0, 1])
    covered = (result.image[:, :140, 0] != 10).mean()
    assert covered <= 0.26


def test_pastes_small_objects_into_regions_to_ignore() -> None:
    donor = window(250, ((40, 30, 60, 80), 1))
    result = paste(window(10, ignored=1), donor, 1, np.random.default_rng(0))
    assert result.classes.tolist() == [1]
    assert result.ignore_boxes.tolist() == [[0, 0, 199, 119]]
