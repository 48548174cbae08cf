"""The demo album's scenes: what is where, and in which light."""

from __future__ import annotations

from dataclasses import dataclass

from .backdrops import Ledge
from .compositing import Placed


@dataclass(frozen=True)
class Scene:
    """One photo.

    Attributes:
        size: (height, width) in pixels.
        background: name of a backdrop.
        target: the object; None for the photo that the cut-out comes from, as it is.
        cutout: whose photo that is, if not the object's own name.
        behind: other things, drawn before the object.
        front: things that cover part of it.
        ledge: covers the photo's lower part.
        brightness: gamma, above 1 is brighter.
        warmth: above 0 is redder, below is bluer.
        side_light: above 0 the right side is brighter.
        blur: of the whole photo, in pixels.
        noise: of the whole photo, standard deviation.
        rotated: stored turned by 90 degrees, with the EXIF orientation that undoes it.
        without_target: the object is left out.
    """

    size: tuple[int, int]
    background: str = ""
    target: Placed | None = None
    cutout: str | None = None
    behind: tuple[Placed, ...] = ()
    front: tuple[Placed, ...] = ()
    ledge: Ledge | None = None
    brightness: float = 1.0
    warmth: float = 0.0
    side_light: float = 0.0
    blur: float = 0.0
    noise: float = 0.008
    rotated: bool = False
    without_target: bool = False


_CAT = (
    Scene((600, 800), "garage", Placed("cat", 0.42, 0.66, 0.78, shadow=None)),
    Scene(
        (480, 640),
        "bokeh wide",
        Placed("cat", 0.62, 0.72, 0.62, flip=True, shadow=None),
        brightness=1.15,
    ),
    Scene(
        (800, 600),
        "lake",
        Placed("cat", 0.45, 0.70, 0.46, angle=-6, shadow=None),
        ledge=Ledge("stone", 0.83),
        warmth=0.05,
    ),
    Scene(
        (600, 800),
        "launch pad",
        Placed("cat", 0.30, 0.78, 0.55, angle=4, light=0.75, shadow=None),
        ledge=Ledge("grass", 0.93, ragged=0.05),
        brightness=0.9,
        warmth=-0.05,
    ),
    Scene(
        (750, 1000),
        "bricks",
        Placed("cat", 0.68, 0.60, 0.42, angle=8),
        behind=(Placed("flower", 0.22, 0.62, 0.30),),
        ledge=Ledge("plank", 0.74, slope=0.02),
        side_light=0.2,
    ),
    Scene(
        (640, 480),
        "pagoda far",
        Placed("cat", 0.55, 0.80, 0.50, flip=True, angle=-5, shadow=None),
        front=(Placed("flower", 0.80, 0.86, 0.24),),
        brightness=1.1,
    ),
    Scene(
        (480, 640),
        "stone",
        Placed("cat", 0.36, 0.60, 0.80, angle=5, light=0.9, shadow=None),
        front=(Placed("cup", 0.60, 0.80, 0.62, angle=-4, light=0.9),),
        brightness=0.85,
        warmth=0.06,
    ),
)

_CUP = (
    Scene((500, 750), cutout="cup"),
    Scene((600, 800), "wood", Placed("cup", 0.62, 0.52, 0.55, angle=25), brightness=1.1),
    Scene(
        (750, 1000),
        "gravel",
        Placed("cup", 0.35, 0.58, 0.40, angle=-12, light=0.95),
        behind=(Placed("flower", 0.72, 0.34, 0.36, angle=30),),
    ),
    Scene(
        (800, 600), "grass", Placed("cup", 0.78, 0.60, 0.42, angle=8), side_light=-0.2, warmth=0.04
    ),
    Scene(
        (480, 640),
        "table",
        Placed("cup", 0.55, 0.62, 0.58, flip=True, light=0.9),
        front=(Placed("flower", 0.30, 0.82, 0.38, angle=70),),
        brightness=0.9,
    ),
    Scene(
        (640, 480),
        "paving",
        Placed("cup", 0.48, 0.50, 0.34, angle=-30),
        brightness=0.8,
        warmth=-0.06,
        rotated=True,
    ),
    Scene(
        (600, 800),
        "stone",
        Placed("cup", 0.28, 0.66, 0.28, angle=15),
        behind=(Placed("flower", 0.62, 0.30, 0.26), Placed("flower", 0.80, 0.60, 0.32, angle=80)),
        side_light=0.25,
        blur=0.6,
    ),
)

_FLOWER = (
    Scene((500, 750), cutout="flower"),
    Scene((600, 800), "bricks", Placed("flower", 0.38, 0.48, 0.50, angle=20), brightness=1.1),
    Scene((800, 600), "grass", Placed("flower", 0.12, 0.66, 0.34, angle=-50), warmth=0.05),
    Scene((750, 750), "astronaut", Placed("flower", 0.72, 0.80, 0.42, angle=100)),
    Scene(
        (480, 640),
        "wood",
        Placed("flower", 0.68, 0.62, 0.36, angle=160),
        behind=(Placed("cup", 0.30, 0.46, 0.62),),
        brightness=0.85,
    ),
    Scene(
        (600, 800),
        "gravel",
        Placed("flower", 0.30, 0.40, 0.26, angle=75, light=0.9),
        side_light=0.25,
        warmth=-0.06,
        blur=0.7,
    ),
    Scene(
        (750, 1000),
        "table",
        Placed("flower", 0.40, 0.60, 0.40, angle=-20),
        front=(Placed("cup", 0.58, 0.76, 0.44),),
        brightness=1.1,
        warmth=0.05,
    ),
)

_MOTORCYCLE = (
    Scene((600, 889), cutout="motorcycle"),
    Scene((500, 741), cutout="motorcycle_right", brightness=0.8),
    Scene(
        (750, 1000),
        "yard",
        Placed("motorcycle_right", 0.50, 0.62, 0.52, flip=True, shadow="ground"),
        brightness=1.1,
    ),
    Scene(
        (600, 800),
        "meadow",
        Placed("motorcycle", 0.52, 0.68, 0.42, shadow="ground"),
        ledge=Ledge("grass", 0.87, ragged=0.05),
        warmth=0.04,
    ),
    Scene(
        (800, 600),
        "terrace",
        Placed("motorcycle_right", 0.48, 0.72, 0.32, angle=-3, shadow="ground"),
        side_light=0.2,
        brightness=1.1,
    ),
    Scene(
        (480, 640),
        "launch",
        Placed("motorcycle", 0.62, 0.72, 0.42, flip=True, light=0.65, shadow="ground"),
        brightness=0.95,
        warmth=-0.05,
    ),
    Scene(
        (600, 800),
        "garage floor",
        Placed("motorcycle_right", 0.60, 0.60, 0.50, angle=2, shadow="ground"),
        ledge=Ledge("stone", 0.77),
        brightness=0.85,
        side_light=-0.2,
    ),
)

SCENES: dict[str, tuple[Scene, ...]] = {
    "cat": _CAT,
    "cup": _CUP,
    "flower": _FLOWER,
    "motorcycle": _MOTORCYCLE,
}
"""Scenes by object; the first is the reference."""
