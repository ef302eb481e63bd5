"""Find cars, cyclists and pedestrians in road video: `python -m squeezedrive`."""

import sys

from squeezedrive.pipeline.app.command_line import main

if __name__ == "__main__":
    sys.exit(main())
