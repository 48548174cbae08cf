"""What every method is: fitted to references, it predicts photos, and can be saved and loaded."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from segment_anything.modeling import Sam
from torch import Tensor

from ..errors import CheckpointError, PersamError
from ..options import Option, options_of
from ..sam import Contrast, ImageEmbedding, PhotoSource, Promptable, PromptableSam, load_sam
from .checks import several_photos
from .prediction import Prediction
from .reference import VISUAL
from .session import FrameByFrame, Session
from .state import check_header, read_state, write_state

Self = TypeVar("Self", bound="Method")


@dataclass(frozen=True)
class Effort:
    """What fitting costs at most, with the default options and one encoded reference.

    Attributes:
        steps: decoder passes that are differentiated.
        passes: decoder passes that are not.
        photos: further photos to encode, beside one that every method may encode for presence.
        seconds: of anything else, on one core.
    """

    steps: int = 0
    passes: int = 0
    photos: int = 0
    seconds: float = 0.0


class Method(ABC):
    """Base of the methods. A new one is a subclass in a file of its own, and one registration.

    A subclass gives the four class attributes, the four abstract methods, and a constructor whose
    first argument is the model and whose others are its options: parameters with a default, each
    kept in an attribute of its name, with a sentence and a range by `Annotated` and `Option`. From
    these the checks of `segment`, the App's form and the command line are made.

    Attributes:
        name: what to pass as ``method``; recorded with runs and saved states.
        title: as people write it.
        help: one sentence, without a full stop.
        references: kinds of reference that it takes: "mask", "box", "points", "text".
        needs_text: whether its model has to take phrases.
        takes_negatives: whether ``fit`` takes ``negatives``, references of what the object is not.
        sam: the model.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    help: ClassVar[str]
    references: ClassVar[tuple[str, ...]] = VISUAL
    needs_text: ClassVar[bool] = False
    takes_negatives: ClassVar[bool] = False

    sam: Promptable

    @abstractmethod
    def fit(self: Self, reference: Any, embeddings: Sequence[ImageEmbedding] | None = None) -> Self:
        """Learn the object from one reference or several. Gradients may be taken.

        Args:
            reference: a `Reference` or `TextReference`, or a list of these.
            embeddings: the references' photos encoded by the same model, if they are at hand.

        Raises:
            BadReferenceError: no reference, or one that the method cannot use.
        """

    @abstractmethod
    def predict_embeddings(
        self, embeddings: Sequence[ImageEmbedding], batch_size: int | None = None
    ) -> list[Prediction]:
        """Segment the object in photos that are encoded already.

        Args:
            embeddings: from the same model's `encode`.
            batch_size: photos decoded at once; by device if None.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """What was fitted, on the CPU: any tensors, by any names.

        Raises:
            PersamError: nothing has been fitted yet.
        """

    @classmethod
    @abstractmethod
    def from_state(
        cls: type[Self], sam: Any, state: Mapping[str, Tensor], settings: Mapping[str, Any]
    ) -> Self:
        """A fitted method from what `state_dict` and `settings` gave.

        Raises:
            PersamError: the tensors or the settings are not such a method's.
        """

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """The constructor's arguments except the model."""
        return options_of(cls)

    @classmethod
    def effort(cls) -> Effort | None:
        """What fitting costs, for forms that say how long it takes; None where nobody has said."""
        return None

    @property
    def settings(self) -> dict[str, Any]:
        """The values of the options."""
        return {option.name: getattr(self, option.name) for option in self.options()}

    @property
    def contrast(self) -> Contrast | None:
        """Which values of photos of more than 8 bits become black and white: the reference's.

        None for a method that has not seen such a photo, or keeps no note of it.
        """
        return None

    def session(self) -> Session:
        """A new session for the frames of one sequence; each frame a photo like any other here."""
        return FrameByFrame(self)

    def predict(
        self, images: Sequence[PhotoSource], batch_size: int | None = None
    ) -> list[Prediction]:
        """Segment the object in photos of any size and mode.

        Args:
            images: paths, PIL images or arrays.
            batch_size: photos encoded at once; by device if None.

        Raises:
            PhotoError: a photo cannot be read.
        """
        self.state_dict()  # fails before the encoder has worked for nothing
        photos = several_photos(images)
        return self.predict_embeddings(self.sam.encode(photos, batch_size, self.contrast))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Save the fitted object: safetensors, with the settings as JSON in its header.

        Returns:
            The path written, ".safetensors" added where it was missing.
        """
        header = {
            "method": self.name,
            "settings": self.settings,
            "model": self.sam.name,
            "checkpoint_sha256": self.sam.checkpoint_sha256,
            "embed_dim": self.sam.embed_dim,
            "grid_size": self.sam.grid_size,
            "image_size": self.sam.image_size,
        }
        return write_state(path, self.state_dict(), header)

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str], sam: PromptableSam | Sam) -> Self:
        """Load what `save` wrote, with its settings.

        Raises:
            CheckpointError: the file is missing, damaged, of another method, or was fitted on
                another model.
        """
        state, header = read_state(path)
        if header.get("method") != cls.name:
            raise CheckpointError(
                f"fitted state {path} is of method {header.get('method')!r}, not {cls.name!r}: "
                "load it with that method's class"
            )
        model = load_sam(sam)
        check_header(path, header, model)
        settings = header.get("settings")
        known = {option.name for option in cls.options()}
        if not isinstance(settings, dict) or not known.issuperset(settings):
            raise CheckpointError(
                f"fitted state {path} has settings that this version does not know: fit again"
            )
        try:
            return cls.from_state(model, state, cast("dict[str, Any]", settings))
        except CheckpointError as error:
            raise CheckpointError(f"fitted state {path} {error}") from error
        except PersamError as error:
            raise CheckpointError(f"fitted state {path} cannot be used, {error}") from error
