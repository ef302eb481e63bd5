"""The matching of detections to objects, and the places where objects are expected."""

from __future__ import annotations

import numpy as np
import pytest

from squeezedrive.pipeline.tracking.matching import overlaps, pair
from squeezedrive.pipeline.tracking.motion import Motion


class TestMatching:
    def test_enlarged_boxes_overlap_from_a_distance(self):
        a, b = np.array([[0.0, 0, 10, 10]]), np.array([[11.0, 0, 21, 10]])
        assert overlaps(a, b, 0.0)[0, 0] == 0
        assert overlaps(a, b, 0.2)[0, 0] > 0.1

    def test_pairs_are_assigned_largest_first(self):
        table = np.array([[0.9, 0.8, 0.0], [0.85, 0.0, 0.3], [0.0, 0.5, 0.1]])
        rows, columns = pair(table, 0.2)
        assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 0), (2, 1), (1, 2)]

    @pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 2)])
    def test_an_empty_matrix_has_no_pairs(self, shape):
        rows, columns = pair(np.zeros(shape), 0.2)
        assert len(rows) == len(columns) == 0


class TestMotion:
    def test_velocity_does_not_depend_on_the_frame_rate(self):
        generator = np.random.default_rng(4)
        motion, seconds = Motion(), 0.0
        motion.add(np.array([[0.0, 0, 50, 50]]), np.ones(1))
        for step in generator.uniform(0.01, 0.2, 60):
            seconds += step
            motion.predict(step)
            box = np.array([[0.0, 0, 50, 50]]) + 30 * seconds
            motion.correct(np.array([0]), box, np.ones(1))
        motion.predict(0.5)
        assert motion.boxes[0] == pytest.approx(
            np.array([0, 0, 50, 50]) + 30 * (seconds + 0.5), abs=1
        )

    def test_one_long_step_equals_many_short_ones(self):
        long, short = Motion(), Motion()
        for motion, steps in ((long, 1), (short, 10)):
            motion.add(np.array([[0.0, 0, 50, 50]]), np.ones(1))
            for _ in range(steps):
                motion.predict(0.4 / steps)
            motion.correct(np.array([0]), np.array([[10.0, 0, 60, 50]]), np.ones(1))
        assert long.boxes == pytest.approx(short.boxes)
        assert long._spread == pytest.approx(short._spread)

    def test_doubtful_detections_move_a_box_less(self):
        moved = []
        for score in (0.9, 0.3):
            motion = Motion()
            motion.add(np.array([[0.0, 0, 50, 50]]), np.ones(1))
            motion.predict(0.03)
            motion.correct(np.array([0]), np.array([[10.0, 0, 60, 50]]), np.array([score]))
            moved.append(motion.boxes[0, 0])
        assert 0 < moved[1] < moved[0] < 10
