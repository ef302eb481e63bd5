"""Measure the network and the detection alone, without the rest of the pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from squeezedrive.engines.backends.base import Backend, Slot
from squeezedrive.kernels.fit import HostPicture

SECONDS = 1.0  # each measurement takes this long


def measure_alone(
    backend: Backend,
    picture: HostPicture,
    batch: int = 1,
    seconds: float = SECONDS,
    hurry: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Measure how often per second a part of the work can be repeated on one picture.

    Parameters
    ----------
    backend : Backend
        Open, with no slot in use.
    picture : uint8 array (height, width, 3), or RowPicture
        A frame of the source, so that as many boxes are found as usual.
    batch : int
        Pictures at once.
    seconds : float
        How long each part is repeated.
    hurry : callable
        Called repeatedly; once it returns True, no part is repeated any more.

    Returns
    -------
    dict
        Frames per second: "inference" for the network alone, "detection" for preprocess, network
        and postprocess, each with as many slots at once as the back end gains by.
    """
    slots = [backend.new_slot(batch) for _ in range(backend.parallel)]
    try:

        def detect(slot: Slot) -> None:
            slot.preprocess([picture] * batch)
            slot.infer()
            slot.detect()

        detection = batch * _rate(slots, detect, seconds, hurry)
        # If `infer` only enqueues work, only the accelerator's own clock can measure it.
        on_device = slots[0].device_seconds
        if on_device:
            inference = batch / max(on_device["infer"], 1e-9)
        else:
            inference = batch * _rate(slots, lambda slot: slot.infer(), seconds, hurry)
        return {"inference": inference, "detection": detection}
    finally:
        for slot in slots:
            slot.close()


def _rate(
    slots: list[Slot], work: Callable[[Slot], None], seconds: float, hurry: Callable[[], bool]
) -> float:
    """Return how often per second all slots together get the work done."""
    start = time.perf_counter()

    def repeat(slot: Slot) -> float:
        count = 0
        while True:
            work(slot)
            count += 1
            spent = time.perf_counter() - start
            if spent >= seconds or hurry():
                return count / spent

    with ThreadPoolExecutor(len(slots)) as pool:
        return sum(pool.map(repeat, slots))
