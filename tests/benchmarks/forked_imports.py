"""Imported by the process that `forked` copies, once and before any copy is made."""

import tests.support.fakes
import tests.support.rectangles  # noqa: F401
from tests.benchmarks.forked import import_all

import_all()
