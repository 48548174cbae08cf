"""Entry point of the FiftyOne plugin.

FiftyOne executes this module on every look at its operators, so it stays tiny: what the operators
need is imported when they are made, and torch only when one runs.
"""

import os
import sys

try:
    from fiftyone_persam import __version__  # noqa: F401  (installed with pip)
except ImportError:
    # `fiftyone plugins download` brings the library along, in the folder above this one. A folder
    # without the library's modules would be imported as a namespace: forget it.
    sys.modules.pop("fiftyone_persam", None)
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def register(plugin):  # type: ignore[no-untyped-def]
    """Called by FiftyOne with the context that takes the operators."""
    from .catalogue import OPERATORS

    for operator in OPERATORS:
        plugin.register(operator)
