"""`python -m activsparse` is the command `activsparse`."""

import sys

from activsparse.cli import main

if __name__ == "__main__":
    sys.exit(main())
