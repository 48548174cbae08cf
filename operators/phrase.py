"""The parts of a form in which the object is said in words."""

from __future__ import annotations

from typing import Any

from .base import Context, ask, choose, notice, refuse

PHRASE, TEXT_MODEL = "phrase", "text_model"
EXAMPLE = "such as: the blue mug"


def can_say() -> bool:
    """Whether a model that takes phrases is on this machine."""
    return any(info.available for info in _models())


def words_notice(inputs: Any) -> None:
    """What to download before words will do, where that is missing; a click always does."""
    if not can_say():
        notice(inputs, "no_words", missing())


def missing() -> str:
    """What is missing for phrases, in one line."""
    from fiftyone_persam.sam.text.tokens import INSTALL, is_installed

    first = _models()[0]
    needed = [] if is_installed() else [INSTALL]
    if not first.path.is_file():
        size = f"{first.bytes / 1e6:,.0f} MB, {first.license}"
        needed.append(f"fiftyone-persam models download {first.name} ({size})")
    how = " and ".join(needed) or f"fiftyone-persam models download {first.name}"
    return f"To say your object in words, run: {how}. A click needs no download."


def phrase_inputs(ctx: Context, inputs: Any, sample: Any = None) -> bool:
    """The words, and the model that takes them. False if the form cannot go on.

    Args:
        ctx: the operator's
        inputs: the form
        sample: the photo in which they are looked for; None for all photos
    """
    from fiftyone_persam.errors import problem_of
    from fiftyone_persam.personalize import TextReference

    if not can_say():
        refuse(inputs, missing(), name="no_words")
        return False
    where = "In this photo" if sample is not None else "In every photo"
    inputs.str(
        PHRASE,
        required=True,
        label="Say your object",
        description=f"{where}, in English, {EXAMPLE}",
    )
    here = {info.name: f"{info.name}: {info.description}" for info in _models() if info.available}
    if len(here) > 1:
        choose(inputs, TEXT_MODEL, here, "Model that takes the words", default=next(iter(here)))
    said = ctx.params.get(PHRASE)
    if not said:
        ask(inputs, "Nothing is said yet: type what your object is.", name="phrase_problem")
        return False
    if problem := problem_of(TextReference, said):
        refuse(inputs, problem, name="phrase_problem")
        return False
    return True


def write_phrase(ctx: Context, sample: Any) -> tuple[str, str]:
    """Field and id of the label for what the words mean in a photo; it is written now."""
    from fiftyone_persam.curation.segmentation.marking import reference_field
    from fiftyone_persam.curation.segmentation.phrases import mark_phrase

    run = ctx.params.get("out_field") or ctx.params["run"]
    field = reference_field(run)
    return field, mark_phrase(sample, ctx.params[PHRASE], field, chosen_text_model(ctx))


def chosen_text_model(ctx: Context) -> str:
    """The model that takes the words."""
    from fiftyone_persam.curation.segmentation.phrases import text_model

    here = [info.name for info in _models() if info.available]
    given = ctx.params.get(TEXT_MODEL)
    return str(given if given in here else text_model(ctx.params.get("model")))


def _models() -> list[Any]:
    from fiftyone_persam.curation.segmentation.phrases import text_models

    return text_models()
