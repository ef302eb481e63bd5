"""The bounded queue between two stages, and the ring of slots."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from threading import Condition
from typing import Generic, Literal, TypeVar

T = TypeVar("T")

Policy = Literal["lossless", "latest", "bounded_age"]

# Seconds. Whatever changes what threads wait for wakes them; they look again this often in any
# case.
POLL_SECONDS = 0.5


class Cancelled(Exception):
    """The run was given up while waiting; the stage has to end without passing anything on."""


class StageQueue(Generic[T]):
    """A bounded first-in first-out queue.

    Parameters
    ----------
    depth : int
        How many items it holds at most.
    policy : str
        What happens to an item that finds the queue full. "lossless": the writer waits.
        "latest": the oldest item is dropped. "bounded_age": likewise, and the reader is never
        given an item older than `max_age`.
    max_age : float
        Seconds, for "bounded_age".
    captured_at : callable
        Returns the monotonic time at which an item came into being; for "bounded_age".
    changed : Condition, optional
        Of all queues that one reader waits for at the same time, see `Merge`.

    Attributes
    ----------
    dropped : Counter
        Items dropped, by reason: "overtaken", "too old" or "too late".
    deepest : int
        Most items it ever held.
    observe : callable or None
        Called with the number of items whenever one was added or taken.
    """

    def __init__(
        self,
        depth: int,
        policy: Policy = "lossless",
        max_age: float = 0.0,
        captured_at: Callable[[T], float] | None = None,
        changed: Condition | None = None,
    ) -> None:
        if depth < 1:
            raise ValueError(f"expected a depth of at least 1, got {depth}")
        if policy == "bounded_age" and captured_at is None:
            raise ValueError("policy bounded_age needs captured_at")
        self.depth = depth
        self.policy = policy
        self.dropped: Counter[str] = Counter()
        self.deepest = 0
        self.observe: Callable[[int], None] | None = None
        self._depth_sum = 0
        self._puts = 0
        self._max_age = max_age
        self._captured_at = captured_at
        self._items: deque[T] = deque()
        self.changed = changed or Condition()
        self._closed = False
        self._cancelled = False

    @property
    def mean_depth(self) -> float:
        """Items in the queue, averaged over the moments at which one was added."""
        return self._depth_sum / self._puts if self._puts else 0.0

    def put(self, item: T) -> None:
        """Add an item; with policy "lossless" wait for room.

        Raises
        ------
        Cancelled
            If the run is given up.
        """
        with self.changed:
            if self.policy == "lossless":
                while len(self._items) >= self.depth and not self._cancelled:
                    self.changed.wait(POLL_SECONDS)
            elif len(self._items) >= self.depth:
                self._items.popleft()
                self.dropped["overtaken"] += 1
            if self._cancelled:
                raise Cancelled
            if self._closed:  # the run ended without waiting for a source that hung
                self.dropped["too late"] += 1
                return
            self._items.append(item)
            self._puts += 1
            self._depth_sum += len(self._items)
            self.deepest = max(self.deepest, len(self._items))
            if self.observe is not None:
                self.observe(len(self._items))
            self.changed.notify_all()

    def get(self) -> T | None:
        """Wait for the next item; None when the writer has closed the queue and it is empty.

        Raises
        ------
        Cancelled
            If the run is given up.
        """
        with self.changed:
            while True:
                item = self.poll()
                if item is not None or self.ended:
                    return item
                self.changed.wait(POLL_SECONDS)

    def poll(self) -> T | None:
        """Take the next item if there is one, without waiting.

        Raises
        ------
        Cancelled
            If the run is given up.
        """
        with self.changed:
            if self._cancelled:
                raise Cancelled
            while self._items:
                item = self._items.popleft()
                if self.observe is not None:
                    self.observe(len(self._items))
                self.changed.notify_all()
                if self.policy != "bounded_age" or not self._too_old(item):
                    return item
                self.dropped["too old"] += 1
            return None

    @property
    def ended(self) -> bool:
        """Whether there is nothing in it and will never be again."""
        with self.changed:
            return self._closed and not self._items

    @property
    def closed(self) -> bool:
        """Whether the writer has closed it: no further item will come."""
        with self.changed:
            return self._closed

    def _too_old(self, item: T) -> bool:
        assert self._captured_at is not None
        return time.monotonic() - self._captured_at(item) > self._max_age

    def close(self) -> None:
        """Mark the end: no further item will come."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    def cancel(self) -> None:
        """Give up: everyone waiting here, now or later, gets `Cancelled`."""
        with self.changed:
            self._cancelled = True
            self.changed.notify_all()


class Merge(Generic[T]):
    """Takes from several queues in turn, so that no writer is kept waiting by the others.

    Parameters
    ----------
    queues : sequence of StageQueue
        At least one; all made with the same `changed`.

    Raises
    ------
    ValueError
        If they were not: one reader cannot wait for them.
    """

    def __init__(self, queues: Sequence[StageQueue[T]]) -> None:
        self._queues = queues
        self._changed = queues[0].changed
        if any(queue.changed is not self._changed for queue in queues):
            raise ValueError("expected queues made with the same `changed`")
        self._first = 0  # the queue whose turn it is

    def get(self, most: int = 1, each: int = 1) -> list[T] | None:
        """Wait for an item and take those that are there; None when all queues have ended.

        At most `most` items are taken and at most `each` of a queue, in its order.

        Raises
        ------
        Cancelled
            If the run is given up.
        """
        count = len(self._queues)
        with self._changed:
            while True:
                items: list[T] = []
                first = self._first
                for k in range(count * each):
                    index = (first + k) % count
                    item = self._queues[index].poll()
                    if item is not None:
                        items.append(item)
                        self._first = (index + 1) % count
                    if len(items) == most:
                        break
                if items:
                    return items
                if all(queue.ended for queue in self._queues):
                    return None
                self._changed.wait(POLL_SECONDS)
