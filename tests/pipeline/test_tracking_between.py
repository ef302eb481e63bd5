"""Boxes in frames that the network has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from squeezedrive.pipeline.tracking.tracker import Tracker
from tests.support.tracks import (
    FPS,
    car,
    controls,
    found,
)


class TestBetween:
    """Boxes in frames between two detections."""

    def test_boxes_are_interpolated_between_detections(self):
        tracker = Tracker(controls())
        for k in range(0, 40, 4):
            tracker.update(found(car(100 + 3 * k)), k / FPS)
            for between in range(k - 3, k) if k > 16 else ():
                shown = tracker.at(between / FPS)
                assert shown.ids.tolist() == [1]
                assert shown.found.scores[0] == pytest.approx(0.9, abs=0.1)
                assert shown.found.boxes[0] == pytest.approx(car(100 + 3 * between)[:4], abs=1)
        # At the end of a source, no detection follows.
        assert tracker.at(38 / FPS).found.boxes[0] == pytest.approx(car(214)[:4], abs=1)

    def test_interpolation_does_not_change_the_tracks(self):
        asked, quiet = Tracker(controls()), Tracker(controls())
        generator = np.random.default_rng(0)
        for k in range(0, 60, 3):
            rows = [car(100 + 3 * k, score=s) for s in generator.uniform(0.1, 0.9, 1)]
            a, b = (tracker.update(found(*rows), k / FPS) for tracker in (asked, quiet))
            asked.at((k - 1) / FPS)
            assert a.ids.tolist() == b.ids.tolist()
            assert a.found.boxes.tolist() == b.found.boxes.tolist()

    def test_interpolates_objects_that_appear_or_leave(self):
        tracker = Tracker(controls())
        tracker.update(found(car(100), car(400, score=0.8)), 1.0)
        tracker.update(found(car(110), car(700, score=0.7)), 1.3)
        assert sorted(tracker.at(1.1).ids.tolist()) == [1, 2]
        assert sorted(tracker.at(1.2).ids.tolist()) == [1]
        assert sorted(tracker.at(1.4).ids.tolist()) == [1, 3]
        assert tracker.at(1.1).found.boxes[1] == pytest.approx(car(400)[:4], abs=0.01)
        scores = tracker.at(1.4).found.scores.tolist()
        assert scores == sorted(scores, reverse=True)

    def test_extrapolation_is_limited(self):
        tracker = Tracker(controls())
        tracker.update(found(car(100)), 1.0)
        tracker.update(found(car(110)), 1.1)
        assert tracker.at(1.2).found.boxes[0] == pytest.approx(tracker.at(3.0).found.boxes[0])
        tracker.update(found(car(112)), 1.10001)  # a clock that stands still gives no speed
        assert tracker.at(1.2).found.boxes[0] == pytest.approx(car(112)[:4], abs=3)

    def test_after_one_detection_boxes_do_not_move(self):
        tracker = Tracker(controls())
        assert len(tracker.at(0.5).ids) == 0
        tracker.update(found(car(100)), 1.0)
        assert tracker.at(1.1).found.boxes[0] == pytest.approx(car(100)[:4], abs=0.01)

    def test_no_interpolation_when_time_goes_back(self):
        """Check that boxes stay where they are, as when a file starts again from its beginning."""
        tracker = Tracker(controls())
        tracker.update(found(car(100)), 9.0)
        tracker.update(found(car(500)), 2.0)
        assert tracker.at(9.1).found.boxes[0] == pytest.approx(car(100)[:4], abs=0.01)
        assert tracker.at(2.1).found.boxes[0] == pytest.approx(car(500)[:4], abs=0.01)

    def test_boxes_can_be_clipped_to_the_picture(self):
        shown = Tracker(controls()).update(found(car(10), car(200), car(330, wide=20)), 0.0)
        cut = shown.within(319, 110)
        assert cut.found.boxes.tolist() == [[0, 80, 40, 110], [170, 80, 230, 110]]
        assert sorted(cut.ids.tolist()) == [1, 2]
