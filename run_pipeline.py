#!/usr/bin/env python3
"""Find cars, cyclists and pedestrians in road video: the program in a checkout."""

import signal

if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback while all else is imported
    from squeezedrive.__main__ import program

    program()
