"""YAML as every file and setting here is read: names are texts, and no key is there twice."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import yaml

NAMES = frozenset({"names", "classes", "labelled", "class_thresholds"})
"""Keys below which there are names of classes."""

_TEXT, _NULL, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "null", "merge"))


def load_yaml(text: str, key: str = "", names: Collection[str] = NAMES) -> Any:
    """Read a YAML document.

    YAML 1.1 takes `no`, `on`, `1_10` and `12:30` for something else than texts, but where a name
    is expected they are names.

    Parameters
    ----------
    text : str
        The document.
    key : str
        The dotted key whose value it is, if it is one.
    names : collection of str
        Keys below which all keys and values are texts as they are written, except that the values
        of `class_thresholds` are numbers. Null is what is not there, unless it is in a list or a
        mapping.

    Raises
    ------
    yaml.YAMLError
        If it is not YAML, or a key is there twice.
    """
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
    """Make texts of names below a node, which is the value of a key, and look for double keys."""
    if id(node) in done:  # an alias, maybe of something around it
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
                        problem=f"the key {inner.value} is there twice",
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
    elif values and (node.value or node.tag == _TEXT):  # nothing at all stays null
        node.tag = _TEXT
