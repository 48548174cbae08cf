"""Errors that a caller may want to catch.

Each message is one line: what was wrong, with which input, and what to do about it.
"""

from __future__ import annotations


class PersamError(ValueError):
    """Base of every error this package raises on purpose."""


class BadReferenceError(PersamError):
    """The reference does not describe one object: no prompt, empty mask, wrong size, ..."""


class CheckpointError(PersamError):
    """A checkpoint or a saved state is missing, truncated, foreign, or of another model."""


class PhotoError(PersamError):
    """A photo cannot be read or is not a photo."""


class RunConflictError(PersamError):
    """Two runs would write into the same place."""


class DatasetLayoutError(PersamError):
    """A folder does not have the layout that an importer expects."""
