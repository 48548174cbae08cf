"""The screens of the gallery: each drives the App to one of them."""

from . import other_forms, results, segment_form  # noqa: F401  they fill SCENES
from .opening import SCENES, Scene, end_of_form

__all__ = ["SCENES", "Scene", "end_of_form"]
