"""Which threads of the program are there."""

import threading

from squeezedrive.pipeline.core.stage import STAGES


def threads_of_runs() -> set[str]:
    """Return the names of the threads that runs of the library have now."""
    names = {thread.name.split()[0] for thread in threading.enumerate()}
    return names & {*STAGES, "squeezedrive"}
