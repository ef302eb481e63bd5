"""Damage to bytes: flipped, cut, spliced, repeated, and numbers at their limits."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

EDGES = (
    0,
    1,
    2,
    7,
    8,
    15,
    16,
    31,
    32,
    63,
    64,
    127,
    128,
    255,
    256,
    1023,
    32767,
    32768,
    65535,
    65536,
)
LIMITS = (2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
FORMATS = ("B", ">H", "<H", ">I", "<I", ">Q", "<Q")
NEAR = 400  # bytes from either end: headers and indices matter more than the pixels between

# Hypothesis draws only the seed. If it drew each edit, one input in six would be a repetition.
seeds = st.randoms(use_true_random=True).map(lambda source: source.getrandbits(64))


@dataclass(frozen=True)
class Damaged:
    """A copy of a file with some edits, which are made when the bytes are needed.

    Attributes
    ----------
    original : bytes
        The whole file.
    others : tuple of bytes
        Files whose parts are spliced in.
    seed : int
        Decides the 1 to 8 edits; small numbers are more likely.
    """

    original: bytes
    others: tuple[bytes, ...]
    seed: int

    def __bytes__(self) -> bytes:
        source = random.Random(self.seed)
        data = bytearray(self.original)
        for _ in range(min(1 + int(source.expovariate(0.7)), 8)):
            edits = IN_PLACE if source.random() < 0.7 else MOVING
            source.choice(edits)(data, self.others, source)
        return bytes(data)


def damaged(original: bytes, others: Sequence[bytes] = ()) -> st.SearchStrategy[Damaged]:
    """Return a strategy for damaged copies of a file, with parts of it or of others spliced in."""
    rest = tuple(others) or (original,)
    return seeds.map(lambda seed: Damaged(original, rest, seed))


def damaged_one_of(originals: Sequence[bytes]) -> st.SearchStrategy[Damaged]:
    """Return a strategy for damaged copies of one of several files, with parts of the others."""
    return st.one_of([damaged(one, originals) for one in originals])


def _place(data: bytearray, source: random.Random) -> int:
    size = len(data)
    kind = source.random()
    if kind < 0.4:
        return source.randint(0, min(size, NEAR))
    if kind < 0.5:
        return max(size - source.randint(0, NEAR), 0)
    return source.randint(0, size)


def _length(size: int, source: random.Random) -> int:
    return source.randint(1, max(1, min(1 << source.randint(0, 20), size)))


def _part(others: Sequence[bytes], source: random.Random) -> bytes:
    other = source.choice(others)
    at = source.randint(0, len(other))
    return other[at : at + _length(len(other), source)]


def _flip(data: bytearray, others: Sequence[bytes], source: random.Random) -> None:
    if data:
        data[min(_place(data, source), len(data) - 1)] ^= 1 << source.randint(0, 7)


def _number(data: bytearray, others: Sequence[bytes], source: random.Random) -> None:
    form = source.choice(FORMATS)
    value = source.choice((*EDGES, *LIMITS, source.getrandbits(64)))
    at, size = _place(data, source), struct.calcsize(form)
    data[at : at + size] = struct.pack(form, value % (1 << 8 * size))


def _noise(data: bytearray, others: Sequence[bytes], source: random.Random) -> None:
    at, size = _place(data, source), source.randint(1, 16)
    data[at : at + size] = source.randbytes(size)


def _overwrite(data: bytearray, others: Sequence[bytes], source: random.Random) -> None:
    at, part = _place(data, source), _part(others, source)
    data[at : at + len(part)] = part


def _zero(data: bytearray, others: Sequence[bytes], source: random.Random) -> None:
    at = _place(data, source)
    end = min(at + _length(len(data), source), len(data))
    data[at:end] = bytes(end - at)


def _cut(data: bytearray, others: Sequence[bytes], source: random.Random) -> None:
    at = _place(data, source)
    del data[at : at + _length(len(data), source)]


def _end(data: bytearray, others: Sequence[bytes], source: random.Random) -> None:
    del data[_place(data, source) :]


def _insert(data: bytearray, others: Sequence[bytes], source: random.Random) -> None:
    at = _place(data, source)
    data[at:at] = _part(others, source)


def _repeat(data: bytearray, others: Sequence[bytes], source: random.Random) -> None:
    at = _place(data, source)
    data[at:at] = data[at : at + _length(len(data), source)] * source.randint(1, 4)


Edit = Callable[[bytearray, Sequence[bytes], random.Random], None]

IN_PLACE: tuple[Edit, ...] = (_flip, _flip, _number, _number, _noise, _overwrite, _zero)
MOVING: tuple[Edit, ...] = (_cut, _end, _insert, _repeat)
