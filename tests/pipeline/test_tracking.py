from __future__ import annotations

import itertools

import numpy as np
import pytest

from squeezedrive.kernels.detections import Detections
from squeezedrive.pipeline.core.controls import Controls
from squeezedrive.pipeline.tracking.tracker import FIRST, FORGET, HIDE, HOLD, Tracker
from tests.support.tracks import (
    CAR,
    CYCLIST,
    FPS,
    PEDESTRIAN,
    ROAD,
    THRESHOLD,
    car,
    controls,
    follow,
    found,
    ids,
    numbers,
)


class TestNumbers:
    def test_an_object_keeps_its_number_and_box(self):
        shown = follow([[car(100 + 3 * k)] for k in range(60)])
        assert ids(shown) == [[1]] * 60
        assert shown[-1].found.boxes[0] == pytest.approx(car(277)[:4], abs=2)
        assert shown[-1].found.scores[0] == pytest.approx(0.9, abs=0.01)
        assert shown[-1].found.classes.tolist() == [CAR]
        assert shown[-1].ids.dtype == np.int32

    def test_objects_that_pass_each_other_keep_theirs(self):
        frames = [
            [car(100 + 6 * k, 100), car(460 - 6 * k, 112, 0.8, wide=50, high=36)] for k in range(61)
        ]
        shown = follow(frames)
        assert [len(t.ids) for t in shown] == [2] * 61
        by_number = dict(zip(shown[-1].ids.tolist(), shown[-1].found.boxes, strict=True))
        assert by_number[1][0] > 400  # the car that moved to the right
        assert by_number[2][0] < 150

    def test_an_object_hidden_by_another_is_known_again(self):
        def seen(k):
            rows = [car(300, wide=80, high=80)]
            if not 20 <= k < 38:  # hidden for 0.6 s behind the standing car
                rows.append(car(100 + 7 * k, 104, 0.8, kind=PEDESTRIAN, wide=24, high=60))
            return rows

        shown = follow([seen(k) for k in range(60)])
        assert [sorted(i) for i in ids(shown)[:20]] == [[1, 2]] * 20
        assert ids(shown)[30] == [1]
        assert [sorted(i) for i in ids(shown)[42:]] == [[1, 2]] * 18

    def test_numbers_are_never_reused(self):
        tracker, used = Tracker(controls()), []
        for k in range(30):  # each time elsewhere, 3 s later
            new = set()
            for step in range(5):
                tracked = tracker.update(found(car(100 + 200 * (k % 3))), 3.0 * k + step / FPS)
                new |= set(tracked.ids.tolist())
            assert len(new) == 1
            used += new
        assert used == list(range(1, 31))

    def test_objects_never_shown_use_no_number(self):
        tracker = Tracker(controls())
        for k in range(40):
            tracker.update(found(car(40 * k % 977, score=0.45)), k / FPS)  # noise everywhere
        tracked = tracker.update(found(car(500, 400)), 41 / FPS)
        assert tracked.ids.tolist() == [1]

    def test_many_objects_keep_their_numbers(self):
        generator = np.random.default_rng(3)
        places = np.array(
            list(itertools.product(range(60, 1900, 130), range(60, 1000, 110))), float
        )
        speed = generator.uniform(-40, 40, places.shape)

        def frame(k):
            now = places + speed * k / FPS + generator.normal(0, 1, places.shape)
            return [
                car(x, y, 0.5 + 0.4 * n / len(now), n % 3) for n, (x, y) in enumerate(now.tolist())
            ]

        shown = follow([frame(k) for k in range(30)])
        assert len(shown[-1].ids) == len(places)
        assert numbers(shown) == set(range(1, len(places) + 1))
        first = dict(zip(shown[5].ids.tolist(), shown[5].found.classes.tolist(), strict=True))
        last = dict(zip(shown[-1].ids.tolist(), shown[-1].found.classes.tolist(), strict=True))
        assert first == last


class TestFlicker:
    @pytest.mark.parametrize("gap", [1, 2])
    def test_missed_frames_are_bridged_where_the_object_would_be(self, gap):
        frames = [[] if 30 <= k < 30 + gap else [car(100 + 6 * k)] for k in range(60)]
        shown = follow(frames)
        assert ids(shown) == [[1]] * 60
        assert shown[29 + gap].found.boxes[0] == pytest.approx(car(100 + 6 * (29 + gap))[:4], abs=4)

    def test_an_object_that_is_gone_is_shown_for_a_moment_only(self):
        shown = follow([[car(100)] if k < 30 else [] for k in range(60)])
        after = sum(len(t.ids) for t in shown[30:])
        assert 2 <= after <= HOLD * FPS + 1
        assert not len(shown[-1].ids)

    def test_weak_detections_count_for_an_object_that_is_there(self):
        scores = [0.6 if k < 10 else 0.35 for k in range(60)]
        shown = follow([[car(100 + k, score=s)] for k, s in enumerate(scores)])
        assert ids(shown) == [[1]] * 60
        assert HIDE * THRESHOLD <= shown[-1].found.scores[0] < THRESHOLD

    def test_scores_around_the_threshold_do_not_flicker(self):
        generator = np.random.default_rng(5)
        scores = generator.uniform(0.3, 0.58, 120)
        shown = np.array([len(t.ids) for t in follow([[car(100, score=s)] for s in scores])])
        assert np.count_nonzero(np.diff(scores > THRESHOLD)) > 40
        assert np.count_nonzero(np.diff(shown)) == 1

    def test_a_weak_detection_does_not_draw_an_object_off_its_strong_one(self):
        frames = [[car(100), car(112, score=0.3)]] * 20
        shown = follow(frames)
        assert ids(shown) == [[1]] * 20
        assert shown[-1].found.boxes[0] == pytest.approx(car(100)[:4], abs=0.1)

    def test_weak_detections_alone_show_nothing(self):
        assert numbers(follow([[car(100, score=0.3)]] * 60)) == set()

    def test_a_single_weakish_detection_is_not_shown(self):
        assert (
            numbers(follow([[car(100, score=0.5)] if k == 5 else [] for k in range(20)])) == set()
        )

    def test_a_doubtful_object_is_shown_when_it_was_seen_for_a_while(self):
        shown = ids(follow([[car(100, score=0.5)]] * 30))
        first = next(k for k, i in enumerate(shown) if i)
        assert 0.06 <= first / FPS <= 0.3
        assert all(shown[first:])

    def test_a_sure_object_is_shown_at_once(self):
        assert ids(follow([[car(100, score=THRESHOLD / FIRST + 0.01)]])) == [[1]]

    def test_an_object_that_was_missing_is_back_at_once(self):
        frames = [[] if 30 <= k < 60 else [car(100)] for k in range(70)]
        shown = ids(follow(frames))
        assert shown[59] == []
        assert shown[60] == [1]

    def test_boxes_tremble_less_than_detections(self):
        generator = np.random.default_rng(1)
        noise = generator.normal(0, 2, (90, 4))
        truth = np.array([car(100 + 4 * k)[:4] for k in range(90)])
        shown = follow([[(*(truth[k] + noise[k]), 0.9, CAR)] for k in range(90)])
        boxes = np.array([t.found.boxes[0] for t in shown])
        assert (
            np.abs(np.diff(boxes, 2, axis=0)).mean() < np.abs(np.diff(noise, 2, axis=0)).mean() / 3
        )
        assert np.abs(boxes - truth)[10:].mean() < np.abs(noise)[10:].mean()

    def test_two_objects_in_one_place_are_shown_as_one(self):
        both = [car(100), car(102, 101, 0.8, CYCLIST)]
        shown = follow([both] * 20)
        assert ids(shown) == [[1]] * 20

    @pytest.mark.parametrize("fps", [3, 8, 15, 60])
    def test_works_at_other_frame_rates(self, fps):
        frames = [[] if k == 20 else [car(100 + 60 * k / fps, score=0.7)] for k in range(40)]
        assert numbers(follow(frames, fps)) == {1}
        if fps > 3:  # after a third of a second, the place is not certain
            assert ids(follow(frames, fps)) == [[1]] * 40


class TestClasses:
    def test_short_changes_of_class_are_outvoted(self):
        kinds = [CYCLIST if k % 3 == 2 else PEDESTRIAN for k in range(60)]
        shown = follow([[car(100 + k, kind=kind)] for k, kind in enumerate(kinds)])
        assert ids(shown) == [[1]] * 60
        assert {t.found.classes[0] for t in shown} == {PEDESTRIAN}

    def test_a_lasting_change_of_class_wins(self):
        shown = follow([[car(100, kind=PEDESTRIAN if k < 60 else CYCLIST)] for k in range(100)])
        classes = [int(t.found.classes[0]) for t in shown]
        assert classes[-1] == CYCLIST
        assert np.count_nonzero(np.diff(classes)) == 1

    def test_a_detection_of_the_same_class_is_preferred(self):
        frames = [[car(100, kind=PEDESTRIAN)]] * 10
        frames += [[car(102, kind=CAR), car(110, kind=PEDESTRIAN)]]
        last = follow(frames)[-1]
        boxes = dict(zip(last.ids.tolist(), last.found.boxes[:, 0].tolist(), strict=True))
        assert boxes[1] > car(102)[0]  # the box follows the pedestrian, not the car


class TestTime:
    def test_a_jump_in_time_forgets_all_tracks(self):
        for jump in (-5.0, FORGET + 0.1):
            tracker = Tracker(controls())
            before = [tracker.update(found(car(100)), 100 + k / FPS) for k in range(10)]
            after = [tracker.update(found(car(100)), 100.3 + jump + k / FPS) for k in range(10)]
            assert ids(before) == [[1]] * 10
            assert ids(after) == [[2]] * 10

    def test_dropped_frames_do_not_change_other_frames(self):
        tracker = Tracker(controls())
        kept = [k for k in range(120) if k % 7 not in (1, 2, 4)]
        shown = [tracker.update(found(car(100 + 3 * k)), k / FPS) for k in kept]
        assert ids(shown) == [[1]] * len(kept)
        assert shown[-1].found.boxes[0] == pytest.approx(car(100 + 3 * kept[-1])[:4], abs=2)

    def test_two_frames_may_have_the_same_time(self):
        tracker = Tracker(controls())
        shown = [tracker.update(found(car(100)), k // 2 / FPS) for k in range(20)]
        assert ids(shown) == [[1]] * 20

    def test_times_may_be_seconds_since_1970(self):
        tracker = Tracker(controls())
        shown = [tracker.update(found(car(100 + 3 * k)), 1.8e9 + k / FPS) for k in range(30)]
        assert ids(shown) == [[1]] * 30


class TestControls:
    def test_a_higher_threshold_hides_at_once_and_a_lower_one_shows(self):
        wanted = controls()
        tracker = Tracker(wanted)
        follow([[car(100, score=0.9), car(400, score=0.5)]] * 20, tracker=tracker)
        wanted.change(threshold=0.6)
        assert tracker.update(found(car(100), car(400, score=0.5)), 20 / FPS).ids.tolist() == [1]
        wanted.change(threshold=0.3)
        assert tracker.update(found(car(100), car(400, score=0.5)), 21 / FPS).ids.tolist() == [1, 2]

    def test_class_thresholds_hold_until_one_is_set_for_all(self):
        wanted = Controls(ROAD, THRESHOLD, (), {"pedestrian": 0.7, "cyclist": 0.2})
        tracker = Tracker(wanted)
        three = [
            car(100, score=0.5), car(300, score=0.6, kind=PEDESTRIAN),
            car(500, score=0.3, kind=CYCLIST),
        ]  # fmt: skip
        shown = follow([three] * 20, tracker=tracker)[-1]
        assert shown.found.classes.tolist() == [CAR, CYCLIST]
        wanted.change(threshold=0.55)
        assert len(tracker.update(found(*three), 20 / FPS).found) == 0
        for k in range(21, 60):
            shown = tracker.update(found(*three), k / FPS)
        assert shown.found.classes.tolist() == [PEDESTRIAN]

    def test_objects_of_unwanted_classes_are_followed_but_not_shown(self):
        wanted = controls()
        tracker = Tracker(wanted)
        both = [car(100), car(400, score=0.8, kind=PEDESTRIAN)]
        follow([both] * 10, tracker=tracker)
        wanted.change(classes=["pedestrian"])
        assert tracker.update(found(*both), 10 / FPS).ids.tolist() == [2]
        wanted.change(classes=["pedestrian", "car"])
        assert tracker.update(found(*both), 11 / FPS).ids.tolist() == [1, 2]

    def test_detections_below_the_weakest_change_nothing(self):
        below = Tracker.weakest(THRESHOLD) - 0.01
        shown = follow([[car(100, score=0.9 if k < 10 else below)] for k in range(30)])
        without = follow([[car(100)] if k < 10 else [] for k in range(30)])
        assert ids(shown) == ids(without)


class TestFrames:
    def test_frames_may_be_empty(self):
        shown = follow([[]] * 10)
        assert ids(shown) == [[]] * 10
        assert shown[0].found.boxes.shape == (0, 4)
        assert shown[0].ids.dtype == np.int32

    def test_reports_the_score_of_an_object_that_has_just_appeared(self):
        shown = follow([[car(100, score=0.9)]] * 3)
        assert [float(t.found.scores[0]) for t in shown] == pytest.approx([0.9] * 3)

    def test_results_are_sorted_by_score(self):
        frames = [[car(100, score=0.9), car(400, score=0.7)]] * 10
        frames += [[car(100, score=0.6), car(400, score=0.95)]] * 30
        shown = follow(frames)
        assert ids(shown)[9] == [1, 2]
        assert ids(shown)[-1] == [2, 1]
        assert (np.diff(shown[-1].found.scores) < 0).all()

    def test_input_detections_are_not_changed(self):
        given = found(car(100), car(400))
        copy = given.boxes.copy()
        tracker = Tracker(controls())
        for k in range(5):
            tracker.update(given, k / FPS)
        assert (given.boxes == copy).all()

    def test_an_object_that_leaves_at_the_edge_is_not_kept(self):
        # The network's boxes end at the picture's edge: the left side of the box stands still there
        # and the right side comes nearer.
        frames = [[(0, 80, max(90 - 6 * k, 6), 120, 0.9, CAR)] if k < 15 else [] for k in range(30)]
        shown = follow(frames)
        assert ids(shown)[14] == [1]
        assert ids(shown)[16] == []
        boxes = np.concatenate([t.found.boxes for t in shown])
        assert (boxes[:, 2:] > boxes[:, :2]).all()

    def test_memory_is_bounded(self):
        generator = np.random.default_rng(0)
        tracker = Tracker(controls())
        most = 0
        for k in range(300):
            spots = generator.uniform(50, 1900, (20, 2))
            tracker.update(found(*(car(x, y, 0.95) for x, y in spots)), k / FPS)
            most = max(most, len(tracker._motion))
        assert most <= 20 * (FORGET * FPS + 2)
        assert len(tracker._motion) == len(tracker._objects.ids)
        for later in (0.9, 1.8, 2.7):  # no step counts as a jump in time
            tracker.update(Detections.empty(), 300 / FPS + later)
        assert len(tracker._motion) == 0
