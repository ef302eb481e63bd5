"""The parts of the program that take input, by name.

A new one, for a reader of GPS tracks say, is a `Target` in a table of a file here: a strategy for
its inputs, made of seeds and `tests.fuzz.mutate` or `tests.fuzz.values`, and what runs the program
with one. What must not happen is looked for in all of them alike.
"""

from tests.fuzz.targets import labels, media, networks, page, results, settings
from tests.fuzz.targets.base import Target

TARGETS: dict[str, Target] = {
    **media.TARGETS,
    **settings.TARGETS,
    **labels.TARGETS,
    **networks.TARGETS,
    **results.TARGETS,
    **page.TARGETS,
}

__all__ = ["TARGETS", "Target"]
