"""The threads of the program."""

import threading

from squeezedrive.pipeline.core.stage import STAGES


def threads_of_runs() -> set[str]:
    """Return the names of all running threads that belong to runs of the library."""
    names = {thread.name.split()[0] for thread in threading.enumerate()}
    return names & {*STAGES, "squeezedrive"}
