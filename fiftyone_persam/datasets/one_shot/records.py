"""What a one-shot benchmark consists of: classes in folds, examples, episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ...errors import DatasetLayoutError, PersamError

Region = Path | dict[str, Any] | tuple[tuple[float, ...], ...]
"""Where an example's object is: a mask's file, a COCO RLE, or polygons (x0, y0, x1, y1, ...)."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class ClassInfo:
    """A class of a benchmark.

    Attributes:
        name: its name; "object+part" for parts.
        fold: the fold in which it is tested.
        part: the part's name, or None.
    """

    name: str
    fold: int
    part: str | None = None


@dataclass(frozen=True)
class Example:
    """One photo with the mask of one class.

    Attributes:
        photo: the photo's file.
        class_index: place of the class in `OneShotIndex.classes`.
        regions: what makes up the mask; their union is the object.
        size: (height, width) in pixels that the annotation states, or None.
        crop: x0, y0, x1, y1 (end exclusive): the part of the photo that is used, or None for all.
        mask_value: which value of a mask's file is the class; None for all that is not 0.
        threshold: value of a grey mask's file from which a pixel is the object; None for ids.
    """

    photo: Path
    class_index: int
    regions: tuple[Region, ...]
    size: tuple[int, int] | None = None
    crop: Box | None = None
    mask_value: int | None = None
    threshold: int | None = None

    @property
    def view(self) -> tuple[str, Box | None]:
        """Names the pixels that are seen: examples of one view need one encoding."""
        return str(self.photo), self.crop


@dataclass(frozen=True)
class Episode:
    """One question of a benchmark: find the supports' class in the query.

    Attributes:
        supports: labelled examples, one per shot.
        query: the photo to segment, with its ground truth.
        class_index: place of the class in `OneShotIndex.classes`.
        fold: the fold.
    """

    supports: tuple[Example, ...]
    query: Example
    class_index: int
    fold: int


@dataclass(frozen=True)
class Protocol:
    """How episodes are drawn; see `episodes`.

    Attributes:
        classes: "round_robin" takes class ``i % number`` in episode i, "random" draws one, "query"
            goes through all photos and takes each one's class, "first" takes each class's first
            photo as support for all its others.
        objects: whether one object of a photo is drawn after the photo was.
        count: episodes of a fold; None for as many as there are queries.
        most: an upper bound where ``count`` depends on the data.
    """

    classes: Literal["round_robin", "random", "query", "first"]
    objects: bool = False
    count: int | None = None
    most: int | None = None


@dataclass
class OneShotIndex:
    """All of a benchmark that was found on the disk.

    Attributes:
        name: the benchmark's.
        protocol: how episodes are drawn.
        classes: all classes, those of every fold.
        photos: class index -> keys of its photos, in the order of the published index.
        examples: (class index, photo key) -> its examples, one per object where objects are drawn.
            None stands for an object that lacks the part: the published code draws it, and again.
        listed: fold -> how many photos the published code counts to know its number of episodes,
            where that is not the number of photos.
        queries: class index -> keys of its queries in their order, where that is another one.
        skipped: (file or annotation, why it was left out).
    """

    name: str
    protocol: Protocol
    classes: list[ClassInfo] = field(default_factory=list)
    photos: dict[int, list[str]] = field(default_factory=dict)
    examples: dict[tuple[int, str], list[Example | None]] = field(default_factory=dict)
    listed: dict[int, int] = field(default_factory=dict)
    queries: dict[int, list[str]] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def folds(self) -> list[int]:
        """The folds that have classes."""
        return sorted({info.fold for info in self.classes})

    def of_fold(self, fold: int) -> list[int]:
        """The classes that are tested in a fold, in the published order.

        Raises:
            PersamError: there is no such fold.
        """
        if fold not in self.folds:
            listed = ", ".join(map(str, self.folds))
            raise PersamError(f"{self.name} has no fold {fold!r}: choose one of {listed}")
        return [i for i, info in enumerate(self.classes) if info.fold == fold]

    def add(self, class_index: int, key: str, examples: Sequence[Example | None]) -> None:
        """Put a photo's examples of a class into the index."""
        self.photos.setdefault(class_index, []).append(key)
        self.examples[class_index, key] = list(examples)


def drop_scarce(index: OneShotIndex) -> None:
    """Leave classes with fewer than two photos out, as published; the others keep their fold.

    Raises:
        DatasetLayoutError: no class is left.
    """
    kept = [i for i in range(len(index.classes)) if len(index.photos.get(i, ())) > 1]
    if not kept:
        raise DatasetLayoutError(
            f"no class of {index.name} has two usable photos: check the folder"
        )
    new = {old: number for number, old in enumerate(kept)}
    index.classes = [index.classes[i] for i in kept]
    index.photos = {new[i]: index.photos[i] for i in kept}
    index.examples = {
        (new[i], key): [e and replace(e, class_index=new[i]) for e in examples]
        for (i, key), examples in index.examples.items()
        if i in new
    }


class Faults:
    """What to do with an annotation that cannot be used: stop, or leave it out and say so."""

    def __init__(self, on_error: str, skipped: list[tuple[str, str]]) -> None:
        if on_error not in ("raise", "skip"):
            raise PersamError(f"on_error {on_error!r} is not known: give 'raise' or 'skip'")
        self._raise = on_error == "raise"
        self._skipped = skipped

    def report(self, what: str, reason: str) -> None:
        """Note a fault.

        Raises:
            DatasetLayoutError: faults are not to be skipped.
        """
        if self._raise:
            raise DatasetLayoutError(f"{what}: {reason} (on_error='skip' leaves it out)")
        self._skipped.append((what, reason))

    def note(self, what: str, reason: str) -> None:
        """Note something that is left out in any case."""
        self._skipped.append((what, reason))

    def attempt(self, what: str, action: Callable[[], Any]) -> Any:
        """The result of ``action``; None after a fault that was skipped."""
        try:
            return action()
        except PersamError as error:
            self.report(what, str(error))
            return None


def require_file(path: Path, what: str) -> Path:
    """``path`` if it is a file.

    Raises:
        DatasetLayoutError: it is not.
    """
    if not path.is_file():
        raise DatasetLayoutError(f"{what} {path} is missing: put it there, or check the folder")
    return path
