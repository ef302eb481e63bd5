"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real footage and reference weights, which is not part of the project."""
    folder = Path(os.environ.get("SQUEEZEDRIVE_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the shared material, not found at {folder} (SQUEEZEDRIVE_SHARED)")
    return folder
