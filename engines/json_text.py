"""JSON as every file of the user's is read here."""

from __future__ import annotations

import json
from typing import Any


def load_json(text: str | bytes) -> Any:
    """Read a JSON document.

    Raises
    ------
    ValueError
        If it is not JSON, not UTF-8, or its lists and objects are nested too deep to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists and objects are nested too deep") from None
