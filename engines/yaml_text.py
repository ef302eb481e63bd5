"""Read YAML for all files and settings: names are texts, and a key may not occur twice."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import yaml

NAMES = frozenset({"names", "classes", "labelled", "class_thresholds"})
"""Keys whose values hold names of classes."""

_TEXT, _NULL, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "null", "merge"))


def load_yaml(text: str, key: str = "", names: Collection[str] = NAMES) -> Any:
    """Read a YAML document.

    YAML 1.1 reads `no`, `on`, `1_10` and `12:30` as booleans and numbers; where a name is expected,
    they are read as names.

    Parameters
    ----------
    text : str
        The document.
    key : str
        The dotted key whose value the document is, if it is a value.
    names : collection of str
        Keys below which all keys and values are read as texts, as they are written; only the values
        of `class_thresholds` are numbers. A null in place of the names stays null, but the word
        null in a list or a mapping is a text.

    Raises
    ------
    yaml.YAMLError
        If it is not YAML, a key is there twice, or it is nested too deep to be read.
    """
    try:
        return _load(text, key, names)
    # What PyYAML stumbles over in dates, numbers and tags that are none: `2020-13-45`, `!!int x`.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise yaml.YAMLError(f"a value cannot be read: {error}") from None
    except RecursionError:
        raise yaml.YAMLError("lists and mappings are nested too deep") from None


def _load(text: str, key: str, names: Collection[str]) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _prepare(node, key.rpartition(".")[2], names, set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _prepare(node: yaml.Node, key: str, names: Collection[str], done: set[int]) -> None:
    """Turn names below a node, the value of `key`, into texts, and reject keys that occur twice."""
    if id(node) in done:  # an alias, perhaps of a node around it
        return
    done.add(id(node))
    if key in names and node.tag != _NULL:
        _make_texts(node, values=key != "class_thresholds", done=set())
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _prepare(item, "", names, done)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for inner, value in node.value:
            if isinstance(inner, yaml.ScalarNode) and inner.tag != _MERGE:
                if inner.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {inner.value} occurs twice",
                        problem_mark=inner.start_mark,
                    )
                seen.add(inner.value)
            _prepare(value, str(inner.value), names, done)


def _make_texts(node: yaml.Node, values: bool, done: set[int]) -> None:
    if id(node) in done:
        return
    done.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _make_texts(item, values, done)
    elif isinstance(node, yaml.MappingNode):
        for inner, value in node.value:
            if inner.tag != _MERGE:
                _make_texts(inner, True, done)
            _make_texts(value, values, done)
    elif values and (node.value or node.tag == _TEXT):  # a missing value stays null
        node.tag = _TEXT
