"""``python -m fiftyone_persam``: the same as the command ``fiftyone-persam``."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
