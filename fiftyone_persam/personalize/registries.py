"""What can be added to this room, by name. Importing it loads no method."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import PersamError
from ..options import Option, check_names, check_values
from ..registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..sam import Promptable
    from .candidates import CandidateSource
    from .location import LocationPrior
    from .method import Method

_HERE = __name__.rpartition(".")[0]

METHODS: Registry[type[Method]] = Registry(
    "method",
    {
        "persam_f": f"{_HERE}.persam_f:PerSAMF",
        "persam": f"{_HERE}.persam:PerSAM",
        "mask_weights_3": f"{_HERE}.tuning.mask_weights:MaskWeights3",
        "prompt_tuning": f"{_HERE}.tuning.prompt_tuning:PromptTuning",
        "adapter": f"{_HERE}.tuning.adapter:AdapterTuning",
        "lora": f"{_HERE}.tuning.lora:LoRA",
        "ssprompt": f"{_HERE}.tuning.ssprompt:SSPrompt",
        "evf_sam": f"{_HERE}.evf_sam:EvfSam",
    },
    required=("name", "title", "help", "references", "fit", "predict_embeddings", "from_state"),
)
"""Methods by name; the first one is the default."""

LOCATION_PRIORS: Registry[type[LocationPrior]] = Registry(
    "location prior",
    {
        "background_removed": f"{_HERE}.stronger_priors:BackgroundRemovedPrior",
        "aligned": f"{_HERE}.location:AlignedPrior",
        "parts": f"{_HERE}.stronger_priors:PartsPrior",
        "hypercolumns": f"{_HERE}.hypercolumns:HypercolumnsPrior",
        "multi_scale": f"{_HERE}.stronger_priors:MultiScalePrior",
        "proposals": f"{_HERE}.proposal_prior:ProposalsPrior",
        "released": f"{_HERE}.location:ReleasedPrior",
    },
    required=("name", "help", "features", "dim", "foreground", "fit", "similarity", "guide"),
)

CANDIDATES: Registry[type[CandidateSource]] = Registry(
    "candidate source",
    {
        "repeat": f"{_HERE}.candidates:RepeatedSearch",
        "proposals": f"{_HERE}.ranked_proposals:RankedProposals",
    },
    required=("name", "help", "always", "check", "find"),
)
"""Where the objects of a photo come from; see `source_of` for the default."""

SEPARATION, MEDOID = "separation", "medoid"
CRITERIA = {
    SEPARATION: "how well each photo tells the object from the rest of all the others",
    MEDOID: "how much each photo's object is like that of all the others",
}
"""What photos can be ranked by as references, the default first; see `suggestion`."""


def source_of(name: str | None, sam: Promptable, limit: int) -> CandidateSource:
    """A source of candidates that a model can be used with.

    Args:
        name: in `CANDIDATES`; None for "proposals" where several objects are looked for and the
            model's embedding is one that the detector knows, and for "repeat" everywhere else.
            `benchmarks.candidates` says why: of several objects the first finds nearly all, of a
            single one the second draws the better mask.
        sam: the model.
        limit: objects per photo, at most.

    Raises:
        PersamError: an unknown name, or one that does not go with the model.
    """
    if name is None and limit > 1:
        with suppress(PersamError):
            return source_of("proposals", sam, limit)
    source: CandidateSource = CANDIDATES[name or "repeat"]()
    source.check(sam)
    return source


@dataclass(frozen=True)
class MethodInfo:
    """What a method says of itself.

    Attributes:
        name: what to pass as ``method``.
        title: as people write it.
        help: one sentence.
        references: kinds of reference that it takes: "mask", "box", "points", "text".
        options: what it can be told.
        needs_text: whether its model has to take phrases.
    """

    name: str
    title: str
    help: str
    references: tuple[str, ...]
    options: tuple[Option, ...]
    needs_text: bool = False

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise PersamError for options that the method has not, or values they cannot have."""
        check_names(self.name, self.options, values)
        check_values(self.options, values)


def method_info(name: str) -> MethodInfo:
    """What a method says of itself.

    Raises:
        PersamError: there is no such method.
    """
    method = METHODS[name]
    needs_text = bool(getattr(method, "needs_text", False))
    return MethodInfo(
        name, method.title, method.help, method.references, method.options(), needs_text
    )


def list_methods() -> list[MethodInfo]:
    """The methods that can be named, the default first."""
    return [method_info(name) for name in METHODS]
