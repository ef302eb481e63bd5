"""Odd values: texts, numbers and JSON where a program expects something sensible."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    "", " ", "\0", "\n", "\t", "-", "--", "nan", "NaN", "inf", "-inf", "Infinity", "1e400",
    "-1e308",
    "1e-320", "0", "-0", "-1", "1", "0.5", "00", "1_0", "0x10", "0b1", "1e3", "１２", "²", "٣", "½",
    "9" * 30, "9" * 5000, "-" + "9" * 400, "1" + "0" * 400, "true", "no", "~", "null", "None", "[]",
    "{}", "[[", "{a: 1}", "*a", "&a", "!!python/object:os.system", "!!int x", "!!binary =",
    "!!float ''",
    "!!timestamp x", "2020-13-45", "2020-01-01T25:61:61Z", "1:99", "<<", "? [a]", "'", '"', "%",
    "%s",
    "{0}", "${HOME}", "$(id)", "`id`", "\x1b[2J\x1b[31m", "\x07", "\r", "é", "e\u0301", "日本語",
    "😀",
    "\u202e", "\ufeff", "\udc80", "x" * 300, "a,b", ",", "=", "a=b", ":", "..", ".", "*", "[",
    "?", "car",
    "Car", "pedestrian", "dontcare", "person=car",
)  # fmt: skip

ODD_NUMBERS = (
    0, -0.0, -1, 1, 2, 0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 2**31,
    -(2**31) - 1, 2**32, 2**53 + 1, 2**63, 2**64, 10**30, 10**400, 10**9, 100_000,
)  # fmt: skip

odd_texts = st.one_of(
    st.sampled_from(ODD_TEXTS), st.text(max_size=8), st.integers(-9, 10**10).map(str)
)
odd_numbers = st.one_of(st.sampled_from(ODD_NUMBERS), st.integers(), st.floats())
ODD_JSON: tuple[Any, ...] = (
    None, True, False, *ODD_NUMBERS, *ODD_TEXTS, [], {}, [[]], [None], {"": None}, {"a": {"b": []}},
    [0] * 4, [1, 2, 3, 4], ["car"] * 3, [1e308] * 4, [-1, -1, 2**40, 2**40], list(range(1000)),
    {"0": "car", "1": "bus"}, {"car": 0.5},
)  # fmt: skip
odd_json = st.one_of(st.sampled_from(ODD_JSON), st.sampled_from(ODD_JSON), odd_numbers, odd_texts)

Path = tuple[Any, ...]


def paths_in(value: Any, before: Path = ()) -> Iterator[Path]:
    """Yield the paths of all values in a document of lists and dictionaries, from the top down."""
    yield before
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        yield from paths_in(inner, (*before, key))


def odd_documents(document: Any, most: int = 3) -> st.SearchStrategy[Any]:
    """Return a strategy for documents in which some values are odd, missing or doubled."""
    paths = [path for path in paths_in(document) if path]
    change = st.tuples(st.sampled_from(paths), st.sampled_from("=====-+^"), odd_json)
    return st.lists(change, min_size=1, max_size=most).map(lambda found: _changed(document, found))


def _changed(document: Any, changes: Sequence[tuple[Path, str, Any]]) -> Any:
    document = copy.deepcopy(document)
    for (*way, last), kind, value in changes:
        try:
            place = document
            for key in way:
                place = place[key]
            if kind == "=":
                place[last] = value
            elif kind == "-":
                del place[last]
            elif kind == "+" and isinstance(place, list):
                place.insert(last, copy.deepcopy(place[last]))
            elif kind == "+":
                place[str(value)] = copy.deepcopy(place[last])
            elif kind == "^":
                place[last] = [place[last]]
        except (LookupError, TypeError):  # an earlier change has removed this path
            continue
    return document


def json_bytes(document: Any) -> bytes:
    """Return a document as JSON, with NaN and lone surrogates as Python writes them."""
    return json.dumps(document).encode("utf-8", "surrogatepass")


def odd_lines(text: str, separator: str | None = None, most: int = 4) -> st.SearchStrategy[bytes]:
    """Return a strategy for lines in which some fields are odd, missing or doubled."""
    rows = [line.split(separator) for line in text.splitlines()]
    places = [(row, field) for row, fields in enumerate(rows) for field in range(len(fields))]
    change = st.tuples(st.sampled_from(places), st.sampled_from("===-+"), odd_texts)
    glue = " " if separator is None else separator

    def changed(found: Sequence[tuple[tuple[int, int], str, str]]) -> bytes:
        lines = [list(fields) for fields in rows]
        for (row, field), kind, value in found:
            if field < len(lines[row]):
                lines[row][field : field + 1] = {
                    "=": [value], "-": [], "+": [lines[row][field]] * 2,
                }[kind]  # fmt: skip
        return "\n".join(glue.join(fields) for fields in lines).encode("utf-8", "surrogatepass")

    return st.lists(change, min_size=1, max_size=most).map(changed)
