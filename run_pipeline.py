#!/usr/bin/env python3
"""Find cars, cyclists and pedestrians in road video: the program in a checkout."""

import sys

from squeezedrive.pipeline.app.command_line import main

if __name__ == "__main__":
    sys.exit(main())
