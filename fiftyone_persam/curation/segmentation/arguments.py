"""What a run is given, judged before anything is written: parameters, options, names, folders."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...engine.job import MASK_STORAGE
from ...errors import BadReferenceError, PersamError, RunConflictError, did_you_mean
from ...options import check_values
from ...personalize.reference import TEXT
from ...personalize.registries import METHODS, method_info
from ..checks import check_choice, check_mask_value
from ..labels.references import AnyReference, PhraseReference
from ..runs import naming
from ..runs.fields import LABEL_TYPES, RunFields, read_fields
from ..runs.folders import check_writable, choose_folder, is_free, owns_folder, read_mark
from ..runs.record import Parameters, read_record
from .fitting import THRESHOLD


def check_parameters(parameters: Parameters) -> None:
    """Raise PersamError for values that no run can have."""
    check_choice("label_type", parameters.label_type, LABEL_TYPES)
    check_choice("mask_storage", parameters.mask_storage, MASK_STORAGE)
    check_mask_value(parameters.mask_value)
    if parameters.compare_photos and parameters.objects:
        raise PersamError(
            "compare_photos=True compares the photos of one object, and this run is of several "
            "that share their photos: leave it out, or make a run of each"
        )
    threshold = parameters.presence_threshold
    if threshold is None:
        return
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
        raise PersamError(f"presence_threshold {threshold!r} is not a number: give one of 0 to 1")
    if not 0 <= threshold <= 1:
        raise PersamError(f"presence_threshold {threshold!r} is out of range: give one of 0 to 1")


def check_options(method: str, options: dict[str, Any]) -> None:
    """Raise PersamError unless a method is there and can have these options."""
    check_choice("method", method, tuple(METHODS))
    known = method_info(method).options
    names = [option.name for option in known if option.name != THRESHOLD]
    for option in options:
        if option not in names:
            listed = f"its options are {', '.join(names)}" if names else "it has no options"
            raise PersamError(
                f"{option!r} is not an argument of segment() and not an option of {method}: "
                f"{listed}{did_you_mean(option, names)}"
            )
    check_values(known, options)


def check_kinds(method: str, references: Sequence[AnyReference]) -> None:
    """Raise BadReferenceError for a label of a kind that the method does not take."""
    from ...personalize.checks import check_kind

    info = method_info(method)
    for one in references:
        kind = TEXT if isinstance(one, PhraseReference) else one.prompt.kind
        check_kind(kind, info.references, info.title)
    if info.needs_text and not any(isinstance(one, PhraseReference) for one in references):
        raise BadReferenceError(
            f"{info.title} did not get a phrase: give one, as in TextReference('the blue mug')"
        )


def check_run(dataset: Any, fields: RunFields, skip_existing: bool, overwrite: bool) -> bool:
    """Whether the run is there already; raise unless it is free or may be gone on with."""
    naming.check_name(fields.run)
    if skip_existing and overwrite:
        raise PersamError("skip_existing and overwrite contradict each other: choose one")
    if fields.run not in naming.run_names(dataset):
        naming.check_free(dataset, fields)
        return False
    if not (skip_existing or overwrite):
        raise RunConflictError(
            f"dataset {dataset.name!r} has a run {fields.run!r} already: go on with it with "
            "skip_existing=True, replace it with overwrite=True, or choose another out_field"
        )
    present = read_fields(dataset, fields.run)
    if present.objects != fields.objects:
        listed = ", ".join(map(repr, present.objects)) if present.objects else "one object"
        raise RunConflictError(
            f"run {fields.run!r} is of {listed}: name the same in the same order, delete the run, "
            "or choose another out_field"
        )
    if present != fields:
        raise RunConflictError(
            f"run {fields.run!r} writes other fields (label_type={present.label_type!r}, "
            f"similarity={present.similarity}, prompts={present.prompts}, "
            f"compare_photos={present.compare_photos}): ask for the same, delete the run, or "
            "choose another out_field"
        )
    return True


def choose_masks_dir(dataset: Any, name: str, exists: bool, masks_dir: Any) -> tuple[Path, str]:
    """The folder of a run's masks, and the run's id."""
    if exists:
        record = read_record(dataset, name)
        folder = record.folder
        chosen = folder if masks_dir is None else Path(masks_dir).expanduser().absolute()
        if chosen != folder:
            raise RunConflictError(
                f"run {name!r} keeps its masks in {folder}: leave masks_dir out, or delete the run"
            )
        nobodys = read_mark(folder) is None and is_free(folder, record.run_id)
        if owns_folder(folder, dataset, record.run_id) or nobodys:
            check_writable(folder)  # before an overwrite removes what cannot be made again
            return folder, record.run_id
        # A cloned dataset must not write into the folder of its original.
    run_id = uuid.uuid4().hex
    return choose_folder(dataset, name, masks_dir, run_id), run_id
