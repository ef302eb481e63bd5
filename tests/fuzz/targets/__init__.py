"""The parts of the program that take input, by name.

To add a part, for example a reader of files, put a `Target` into the table of a file here: a
strategy for its inputs, made from seeds and `tests.fuzz.mutate` or `tests.fuzz.values`, and a
function that runs the program with one input. The forbidden behaviour is the same for all targets.
"""

from tests.fuzz.targets import labels, media, networks, page, positions, results, settings
from tests.fuzz.targets.base import Target

TARGETS: dict[str, Target] = {
    **media.TARGETS,
    **settings.TARGETS,
    **labels.TARGETS,
    **networks.TARGETS,
    **results.TARGETS,
    **positions.TARGETS,
    **page.TARGETS,
}

__all__ = ["TARGETS", "Target"]
