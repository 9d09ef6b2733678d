"""`python -m colorjax` is the program `colorjax`."""

import sys

from colorjax.cli import main

if __name__ == "__main__":
    sys.exit(main())
