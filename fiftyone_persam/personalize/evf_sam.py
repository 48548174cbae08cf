"""EVF-SAM as a method: a phrase on every photo, alone or to choose among lookalikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import BadReferenceError, PersamError
from ..options import Option, check_values
from ..sam import Contrast, ImageEmbedding, PhotoSource, TextPromptable, load_sam, read_photo
from ..sam.model import DECODE_BATCH, check_batch_size
from .cascade_options import PresenceThreshold
from .checks import check_embeddings, several_references_of
from .method import Effort, Method
from .persam import PerSAM
from .prediction import Prediction
from .reference import TEXT, VISUAL, Reference, TextReference
from .threshold import is_absent

PHRASE, EMPTY, ABSENT = "phrase", "empty", "absent"
_LOOKS = "looks."
"""Begins the names of what is remembered of how the object looks."""
_ONE_COLOUR = 1e-3
"""Range of values, of 2 in all, within which a photo has nothing in it."""

Self = TypeVar("Self", bound="EvfSam")
Lookalikes = Annotated[
    int,
    Option(
        "lookalikes that the phrase chooses among, where a photo is given besides, at most",
        low=1,
        advice="give 1 or more",
    ),
]


class EvfSam(Method):
    """Finds what a phrase says in every photo (EVF-SAM, arXiv 2406.20076).

    A phrase means a kind of thing, not *your* thing: "the blue mug" is any blue mug. Where labelled
    photos are given besides, PerSAM finds what looks like the object in them, and of these
    lookalikes the one is taken that the phrase's mask overlaps most; none, if it overlaps none.

    Args:
        sam: a model that takes phrases: from ``load_sam("evf_sam")``, or its name.
        presence_threshold: an object whose presence is below it counts as absent and gets an empty
            mask. A phrase's presence is the predicted IoU of its mask, because EVF-SAM does not
            judge presence itself, and None is 0: every mask is kept. With labelled photos it is
            PerSAM's, and None is 0.5.
        max_lookalikes: objects that look the same to choose among, at most.

    Raises:
        PersamError: the model takes no phrases, or a value is out of range.
    """

    name = "evf_sam"
    title = "EVF-SAM"
    help = "finds what a phrase says; with a labelled photo besides, it chooses among lookalikes"
    references = (TEXT, *VISUAL)
    needs_text = True

    def __init__(
        self,
        sam: Any,
        *,
        presence_threshold: PresenceThreshold = None,
        max_lookalikes: Lookalikes = 5,
    ) -> None:
        given = {"presence_threshold": presence_threshold, "max_lookalikes": max_lookalikes}
        check_values(self.options(), given)
        self.sam = load_sam(sam)
        if not hasattr(self.sam, "phrase_tokens"):
            raise PersamError(
                f"EVF-SAM needs a model that takes phrases, which {self.sam.name} does not: use "
                "load_sam('evf_sam')"
            )
        self.presence_threshold = presence_threshold
        self.max_lookalikes = int(max_lookalikes)
        self._phrase = ""
        self._looks: PerSAM | None = None

    @property
    def phrase(self) -> str:
        """What `fit` was given.

        Raises:
            PersamError: nothing has been fitted yet.
        """
        if not self._phrase:
            raise PersamError("EVF-SAM knows no phrase yet: call fit(TextReference(...)) first")
        return self._phrase

    @property
    def contrast(self) -> Contrast | None:
        """See `Method.contrast`."""
        return None if self._looks is None else self._looks.contrast

    @classmethod
    def effort(cls) -> Effort:
        """Nothing is tuned."""
        return Effort()

    def fit(self: Self, reference: Any, embeddings: Sequence[ImageEmbedding] | None = None) -> Self:
        """Take a phrase, and learn how the object looks where photos of it are given besides.

        Args:
            reference: a `TextReference`, or a list of one and of any number of `Reference`.
            embeddings: of the photos among the references, if they are at hand.

        Raises:
            BadReferenceError: no phrase, or several; one in a script that the model does not know;
                a photo that cannot serve.
        """
        references = several_references_of(reference, self.references, self.title)
        texts = [one for one in references if isinstance(one, TextReference)]
        photos = [one for one in references if isinstance(one, Reference)]
        if len(texts) != 1:
            got = f"got {len(texts)} phrases" if texts else "did not get a phrase"
            raise BadReferenceError(f"EVF-SAM {got}: give one, as in TextReference('the blue mug')")
        try:
            self._text_sam.check_phrase(texts[0].text)
        except PersamError as error:
            raise BadReferenceError(str(error)) from None
        looks = None
        if photos:
            looks = self._new_looks().fit(photos, embeddings)
        if self.presence_threshold is None:
            self.presence_threshold = 0.5 if photos else 0.0
        self._phrase, self._looks = texts[0].text, looks
        return self

    @torch.inference_mode()
    def predict_embeddings(
        self, embeddings: Sequence[ImageEmbedding], batch_size: int | None = None
    ) -> list[Prediction]:
        """See `Method.predict_embeddings`."""
        step = check_batch_size(batch_size) or DECODE_BATCH.get(self.sam.device.type, 8)
        check_embeddings(embeddings, self.sam)
        found: list[Prediction] = []
        for start in range(0, len(embeddings), step):
            chunk = embeddings[start : start + step]
            said = self._said(chunk)
            if self._looks is not None:
                seen = self._looks.predict_embeddings(chunk)
                said = [_chosen(one, other) for one, other in zip(seen, said, strict=True)]
            found += [_judged(one, self.presence_threshold) for one in said]
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """See `Method.state_dict`."""
        letters = torch.frombuffer(bytearray(self.phrase.encode()), dtype=torch.uint8)
        looks = {} if self._looks is None else self._looks.state_dict()
        return {"phrase": letters, **{_LOOKS + name: tensor for name, tensor in looks.items()}}

    @classmethod
    def from_state(
        cls: type[Self], sam: Any, state: Mapping[str, Tensor], settings: Mapping[str, Any]
    ) -> Self:
        """See `Method.from_state`."""
        loaded = cls(sam, **settings)
        try:
            text = bytes(state["phrase"].to(torch.uint8).tolist()).decode()
        except (KeyError, UnicodeDecodeError, TypeError):
            raise PersamError("has no phrase: fit and save it again") from None
        looks = {n.removeprefix(_LOOKS): t for n, t in state.items() if n.startswith(_LOOKS)}
        loaded.fit(TextReference(text))
        if looks:
            plain = loaded._new_looks()
            loaded._looks = PerSAM.from_state(loaded.sam, looks, plain.settings)
        return loaded

    @property
    def _text_sam(self) -> TextPromptable:
        return cast(TextPromptable, self.sam)

    def _new_looks(self) -> PerSAM:
        # Judged in the end, when the phrase has chosen.
        return PerSAM(self.sam, presence_threshold=0.0, max_instances=self.max_lookalikes)

    def _said(self, embeddings: Sequence[ImageEmbedding]) -> list[Prediction]:
        """What the phrase means in each photo."""
        sam = self._text_sam
        features = torch.stack([e.features.to(sam.device) for e in embeddings])
        tokens = sam.phrase_tokens(self.phrase, embeddings)
        logits, scores = sam.decode_tensors(features, tokens=tokens)
        found = []
        for embedding, row, score in zip(embeddings, logits[:, :1], scores[:, 0], strict=True):
            mask = (sam.upscale(row, embedding)[0] > 0).cpu().numpy()
            if _is_blank(embedding):
                mask[:] = False
            likely = F.adaptive_avg_pool2d(row.sigmoid(), sam.grid_size)[0].cpu().numpy()
            rows, columns = embedding.valid_grid
            value = float(score)
            presence = min(1.0, max(0.0, value)) if mask.any() else 0.0
            found.append(
                Prediction(
                    mask=mask,
                    score=value,
                    presence=presence,
                    similarity=likely[:rows, :columns].astype(np.float32),
                    points=np.empty((0, 2), np.int64),
                    labels=np.empty(0, np.int64),
                    box=None,
                    stage=PHRASE if mask.any() else EMPTY,
                    agreement=1.0,
                    candidate=mask,
                )
            )
        return found


def find_phrase(image: PhotoSource, phrase: str, model: Any = "evf_sam") -> Reference:
    """What a phrase means in one photo, as a `Reference` that every method can be fitted to.

    Args:
        image: path, PIL image or array.
        phrase: such as "the blue mug"; see `TextReference`.
        model: one that takes phrases: a name from `list_models`, or what `load_sam` returned.

    Raises:
        BadReferenceError: the phrase is empty or too long, the model does not know its script, or
            the photo shows nothing like that.
        PersamError: the model takes no phrases.
        CheckpointError: the model's checkpoint is not there.
        PhotoError: the photo cannot be read.
    """
    text = phrase if isinstance(phrase, TextReference) else TextReference(phrase)
    photo, contrast = read_photo(image)
    (found,) = EvfSam(model).fit(text).predict([photo])
    if not found.candidate.any():
        raise BadReferenceError(
            f"the phrase {text.text!r} finds nothing in the photo: say it otherwise, or choose the "
            "photo that shows the object"
        )
    reference = Reference(photo, mask=found.candidate)
    reference.contrast = contrast
    return reference


def _is_blank(embedding: ImageEmbedding) -> bool:
    """Whether a photo is of one colour: there is nothing in it, whatever a model says."""
    overview = embedding.overview
    if overview is None:
        return False
    lows, highs = overview.amin(dim=(1, 2)), overview.amax(dim=(1, 2))
    return bool((highs - lows).max() < _ONE_COLOUR)


def _chosen(seen: Prediction, said: Prediction) -> Prediction:
    """Of the lookalikes in ``seen``, the one that the phrase means; an empty mask if it means none.

    ``agreement`` becomes the IoU of the two masks.
    """
    lookalikes = seen.instances or (seen,)
    overlaps = [_iou(one.candidate, said.candidate) for one in lookalikes]
    best = int(np.argmax(overlaps))
    if overlaps[best] > 0:
        chosen = lookalikes[best]
        return replace(chosen, mask=chosen.candidate, agreement=overlaps[best], instances=())
    nothing = np.zeros_like(said.candidate)
    return replace(
        said,
        mask=nothing,
        candidate=nothing,
        presence=0.0,
        similarity=seen.similarity,
        stage=EMPTY,
        agreement=0.0,
    )


def _judged(found: Prediction, threshold: float | None) -> Prediction:
    """Without its mask where the object counts as absent."""
    if found.candidate.any() and is_absent(found.presence, threshold):
        return replace(found, stage=ABSENT, mask=np.zeros_like(found.candidate))
    return found


def _iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0
