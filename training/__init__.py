"""Training of the bundled sam_lite checkpoint: ``python -m training.train --help``."""
