"""The options of the methods that decode in passes: types, ranges and the sentences of forms."""

from __future__ import annotations

from typing import Annotated, Literal

from ..options import Option
from .registries import CANDIDATES, LOCATION_PRIORS

Mode = Annotated[
    Literal["corrected", "reference"],
    Option("the released code with its faults mended, or exactly what it computes"),
]
NegativePrior = Annotated[bool, Option("also prompt with the least similar cell, as background")]
GuidedAttention = Annotated[bool, Option("bias the decoder's attention by the similarity map")]
SemanticPrompt = Annotated[bool, Option("add the target feature to the decoder's tokens")]
PositivePoints = Annotated[
    int | None,
    Option(
        "most similar places of one object to prompt with; 3 if left out, as released 1",
        low=1,
        high=16,
        advice="give 1 or more",
    ),
]
PostRefinement = Annotated[bool, Option("run the two further passes")]
PresenceThreshold = Annotated[
    float | None,
    Option(
        "presence below which the object counts as absent; 0.5 if left out, 0 for never",
        low=0,
        high=1,
        advice="give one of 0 to 1",
    ),
]
SeveralReferences = Annotated[
    Literal["max", "mean", "agreement", "parts"],
    Option("how several references become one similarity map"),
]
MaxInstances = Annotated[
    int,
    Option(
        "objects that look the same to find in one photo, at most", low=1, advice="give 1 or more"
    ),
]
PriorName = Annotated[
    str | None,
    Option(
        "how the object is located; the mode's own way if left out", among=lambda: LOCATION_PRIORS
    ),
]
Candidates = Annotated[
    str | None,
    Option(
        "where further objects of a photo come from: 'repeat' locates again in what is left, "
        "'proposals' ranks the things in the photo by their likeness to the reference (sam_lite); "
        "if left out, the latter where several objects are looked for and the model allows it",
        among=lambda: CANDIDATES,
    ),
]
