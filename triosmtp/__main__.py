"""Run the commands as ``python -m triosmtp``."""

import sys

from triosmtp.cli import main

if __name__ == "__main__":
    sys.exit(main())
