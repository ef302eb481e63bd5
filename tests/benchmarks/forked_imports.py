"""The imports of the process that `forked` copies, made once before the first copy."""

import tests.support.fakes
import tests.support.rectangles  # noqa: F401
from tests.benchmarks.forked import import_all

import_all()
