"""Tuning on one photo or a few: what is tuned, the harness that tunes it, and the methods.

`scales` is PerSAM-F's own, exact and fast. `harness` tunes any `Part`: a few parameters and the way
they take part in decoding. A method with a part of its own is one file here, and one registration.
"""

from __future__ import annotations

from .scales import Tuning, tune_scales

__all__ = ["Tuning", "tune_scales"]
