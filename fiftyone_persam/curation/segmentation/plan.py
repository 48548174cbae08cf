"""Everything a run needs, checked before anything is written."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo

from ...engine.job import MASK_STORAGE, OutputSettings, PhotoTask, Predictor
from ...engine.writing import MASK_VALUE
from ...errors import BadReferenceError, PersamError, RunConflictError, did_you_mean
from ...options import check_values
from ...personalize.reference import TEXT
from ...personalize.registries import METHODS, method_info
from .. import database, fiftyone_api
from ..checks import check_choice, check_group_by, check_mask_value
from ..database import photos_of
from ..frame_store import FrameStore
from ..labels.objects import resolve_objects
from ..labels.references import AnyReference, PhraseReference, resolve_references
from ..runs import folders, naming
from ..runs.fields import LABEL_TYPES, RunFields, read_fields
from ..runs.folders import check_writable, choose_folder, is_free, owns_folder, read_mark
from ..runs.record import Parameters, read_record
from ..runs.several import most_of, numbers_of, values_of
from . import sequences
from .sequences import NewFrames

if TYPE_CHECKING:
    from ...engine import EmbeddingCache
    from ...sam import PromptableSam
    from ..labels.references import SampleReference
    from .marking import Mark

THRESHOLD = "presence_threshold"
"""An argument of `segment` itself, which methods that look at it have as an option."""
OBJECT = "object"
FRAME_STAGES = (fo.SelectFrames, fo.ExcludeFrames, fo.MatchFrames)
"""What leaves frames out of videos."""

logger = logging.getLogger(__name__)


@dataclass
class Plan:
    """A run that may begin.

    Attributes:
        dataset: the dataset.
        samples: the photos of the call, as they were given.
        name: the run's name.
        exists: whether the run is there already and goes on.
        method: a name in `METHODS`.
        sam: the model.
        parameters: see `Parameters`.
        references: at least one per object.
        predictors: fitted, by object.
        tasks: the photos to segment, object by object.
        ids: every photo of the call, also those that are skipped.
        overwrite: whether results that are there are cleared first.
        masks_dir: the folder of mask files.
        run_id: marks the folder.
        marks: labels that phrases have found, or reviews rejected; written when the run begins.
        negatives: what the objects are not.
        fitting: seconds that learning the objects took.
        new_frames: what the dataset does not know of its videos yet.
        labelled: see `Job`.
        tag: part of the names of this call's files.
    """

    dataset: Any
    samples: Any
    name: str
    exists: bool
    method: str
    sam: PromptableSam
    parameters: Parameters
    references: Sequence[AnyReference]
    predictors: dict[str, Predictor]
    tasks: list[PhotoTask]
    ids: list[str]
    overwrite: bool
    masks_dir: Path
    run_id: str
    marks: Sequence[Mark] = ()
    negatives: Sequence[SampleReference] = ()
    fitting: float = 0.0
    tag: str = ""
    new_frames: NewFrames | None = None
    labelled: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Never over a file that is there: a copy of a field, or another dataset, may name it.
        if self.exists or folders.has_masks(self.masks_dir):
            self.tag = folders.new_tag()

    @property
    def fields(self) -> RunFields:
        """The fields to write."""
        p = self.parameters
        beside = (p.similarity, p.prompts, tuple(p.objects), p.compare_photos)
        return RunFields(self.name, p.label_type, *beside)

    @property
    def targets(self) -> dict[int, str]:
        """What each value of the masks means."""
        if self.parameters.objects:
            return values_of(self.parameters.objects)
        if self.numbered:
            name = OBJECT if self.parameters.group_by else self.object_name("")
            return numbers_of(name, most_of(self.parameters.options))
        return {MASK_VALUE: OBJECT if self.parameters.group_by else self.object_name("")}

    @property
    def numbered(self) -> bool:
        """Whether what was found of one object has the values 1, 2, ... in masks of photos."""
        p = self.parameters
        in_turn = p.sequence_field is not None or isinstance(self.dataset, FrameStore)
        return most_of(p.options) > 1 and not p.objects and not in_turn

    @property
    def output(self) -> OutputSettings:
        """What the engine keeps of a prediction."""
        p = self.parameters
        return OutputSettings(
            masks_dir=self.masks_dir,
            storage=p.mask_storage,
            whole=self.fields.masks is not None,
            instances=self.fields.instances is not None,
            similarity=p.similarity,
            prompts=p.prompts,
            presence_threshold=p.presence_threshold or 0.0,
            tag=self.tag,
            objects=tuple(p.objects),
            numbered=self.numbered,
        )

    def object_name(self, group: str) -> str:
        """What instances of an object are called."""
        if group:
            return group
        return next((r.name for r in self.references if r.name), "object")


# ----------------------------------------------------------------------------------------------


def check_photos(samples: Any) -> Any:
    """The photos of a dataset or view, one by one and with all fields.

    Raises:
        PersamError: there are none, or these are not photos.
    """
    dataset = database.root(samples)
    if isinstance(dataset, FrameStore):
        return _check_videos(samples)
    if samples.media_type == "group" and not database.is_grouped_by_field(samples):
        raise PersamError(
            f"dataset {dataset.name!r} is grouped: choose its photos with "
            "select_group_slices(media_type='image')"
        )
    photos = photos_of(samples)
    if not database.count(photos):
        raise PersamError("there is no photo to segment: the dataset or view is empty")
    if photos.media_type != "image":
        raise PersamError(
            f"dataset {dataset.name!r} holds media of type {photos.media_type!r}: "
            "only photos and videos can be segmented"
        )
    return photos


def _check_videos(samples: Any) -> Any:
    """Videos, a view of frames, or a `FrameStore` where only some frames of videos are meant."""
    whole = isinstance(samples, (FrameStore, fo.Dataset))
    if not whole and not fiftyone_api.is_clips(samples):
        database.check_shows_photos(samples)
        if any(isinstance(one, FRAME_STAGES) for one in fiftyone_api.stages_of(samples)):
            samples = photos_of(samples)
        elif not fiftyone_api.is_frames(samples):
            samples = database.with_all_fields(samples)
    if not len(samples):
        what = "video" if isinstance(samples, fo.Dataset) else "frame"
        raise PersamError(f"there is no {what} to segment: the dataset or view is empty")
    return samples


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


def choose_tasks(
    samples: Any, parameters: Parameters
) -> tuple[list[PhotoTask], NewFrames | None, Parameters]:
    """Every photo or frame of what `check_photos` gave, object by object, sequences in order.

    Returns:
        The tasks, what the dataset does not know of its videos yet, and the parameters with what
        a run needs to know to find its frames again.
    """
    group_by, asked = parameters.group_by, parameters
    fields = (asked.sequence_field, asked.order_field)
    if not isinstance(database.home(samples), FrameStore):
        tasks = sequences.in_sequences(choose_photos(samples, group_by), samples, *fields)
        return tasks, None, parameters
    if fields != (None, None):
        raise PersamError(
            "frames of videos are in sequences already: leave out sequence_field and order_field"
        )
    if isinstance(samples, FrameStore):
        return sequences.recorded_tasks(samples, group_by, asked.frame_files), None, parameters
    if fiftyone_api.is_clips(samples):
        tasks, new = sequences.clip_tasks(samples, group_by)
        return tasks, new, parameters
    if fiftyone_api.is_frames(samples):
        tasks, new = sequences.view_tasks(samples, group_by)
        in_files = any(task.frame is None for task in tasks)
        return tasks, new, replace(parameters, frame_files=in_files)
    tasks, new = sequences.video_tasks(samples, group_by)
    return tasks, new, parameters


def choose_photos(samples: Any, group_by: str | None) -> list[PhotoTask]:
    """Every photo of ``samples``, object by object."""
    if group_by is None:
        ids, paths = samples.values(["id", "filepath"])
        return [PhotoTask(i, path) for i, path in zip(ids, paths, strict=True)]
    check_group_by(samples, group_by)
    ids, paths, groups = samples.values(["id", "filepath", group_by])
    unnamed = [path for path, group in zip(paths, groups, strict=True) if group is None]
    if unnamed:
        raise PersamError(
            f"{len(unnamed)} photos have no value in {group_by!r}: set it, beginning with "
            f"{Path(unnamed[0]).name}, or leave them out"
        )
    rows = zip(ids, paths, groups, strict=True)
    return sorted((PhotoTask(i, p, str(g)) for i, p, g in rows), key=lambda task: task.group)


def choose_references(
    dataset: Any, reference: Any, parameters: Parameters, tasks: Sequence[PhotoTask]
) -> list[AnyReference]:
    """The references of the objects that the photos show."""
    if isinstance(reference, Mapping):
        return resolve_objects(dataset, reference, parameters.label_field, parameters.mask_value)
    found = resolve_references(
        dataset,
        reference,
        parameters.label_field,
        parameters.group_by,
        parameters.mask_value,
    )
    wanted = {task.group for task in tasks}
    check_covered(wanted, {one.group for one in found}, parameters.group_by)
    if parameters.group_by is None and len(found) > 1:
        _warn_of_several_objects(found)
    return [one for one in found if one.group in wanted]


def _warn_of_several_objects(references: Sequence[AnyReference]) -> None:
    """PerSeg's samples name their object: references of several are one by mistake."""
    names: set[str] = set()
    references = [one for one in references if one.sample_id]
    for home in {one.dataset for one in references}:
        photos = photos_of(fo.load_dataset(home))
        if photos.has_field(OBJECT):
            ids = [one.sample_id for one in references if one.dataset == home]
            names.update(map(str, photos.select(ids).distinct(OBJECT)))
    if len(names) > 1:
        logger.warning(
            "the references show %d objects (%s) and are taken as one: give group_by=%r for one "
            "reference per object",
            *(len(names), ", ".join(sorted(names)[:5]), OBJECT),
        )


def check_covered(wanted: set[str], found: set[str], group_by: str | None) -> None:
    """Raise BadReferenceError unless every object of the photos has a reference."""
    missing = sorted(wanted - found)
    if missing:
        listed = ", ".join(repr(group) for group in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise BadReferenceError(
            f"no reference for {listed}{more} in {group_by!r}: "
            "give one per object, or leave these photos out"
        )


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


def choose_cache(cache: Any) -> EmbeddingCache | None:
    """The cache that a ``cache`` argument means; see `segment`."""
    from ...engine import DiskCache, EmbeddingCache

    if cache is None or cache is False:
        return None
    if cache is True:
        return DiskCache()
    if isinstance(cache, (str, os.PathLike)) and str(cache):
        return DiskCache(cache)
    if isinstance(cache, EmbeddingCache):
        return cache
    raise PersamError(f"cache {cache!r} is not a cache: give True, a folder, or a DiskCache")


def fit(
    method: str,
    sam: PromptableSam,
    parameters: Parameters,
    references: Sequence[AnyReference],
    cache: EmbeddingCache | None = None,
    negatives: Sequence[SampleReference] = (),
    followed: bool = False,
) -> tuple[dict[str, Predictor], Parameters]:
    """One fitted predictor per object, and the parameters with all of the method's defaults.

    One for all objects where a photo may have several; of ``followed`` ones all photos are frames
    of sequences.
    """
    from ...engine import encode_files
    from ...personalize import TextReference
    from ...personalize.several import SeveralObjects

    build: Any = METHODS[method]
    options = dict(parameters.options)
    contrast = None
    if any(option.name == THRESHOLD for option in build.options()):
        options[THRESHOLD] = parameters.presence_threshold
    fitted: dict[str, Predictor] = {}
    settings: dict[str, Any] = {}
    for group in dict.fromkeys(reference.group for reference in references):
        chosen = [one for one in references if one.group == group]
        shown = [one for one in chosen if not isinstance(one, PhraseReference)]
        if not parameters.objects:
            contrast = None  # each object's photos have a range of values of their own
        loaded: list[Any] = [shown[0].load(contrast)] if shown else []
        contrast = loaded[0].contrast if shown else contrast
        loaded += [one.load(contrast) for one in shown[1:]]
        encoded = None
        if cache is not None and shown and all(one.frame is None for one in shown):
            encoded = encode_files(sam, [one.filepath for one in shown], cache, contrast)
        said = [TextReference(one.text) for one in chosen if isinstance(one, PhraseReference)]
        predictor = build(sam, **options)
        others = [one.load(contrast) for one in negatives if one.group in ("", group)]
        known = {"negatives": others} if others else {}
        fitted[group] = predictor.fit([*said, *loaded], encoded, **known)
        settings = dict(predictor.settings)
    threshold = settings.pop(THRESHOLD, parameters.presence_threshold or 0.0)
    if parameters.objects:
        named: dict[str, Any] = {name: fitted[name] for name in parameters.objects}
        fitted = {"": SeveralObjects(named, followed)}
    return fitted, replace(parameters, presence_threshold=threshold, options=settings)


def name_of_features(sam: Any) -> str | None:
    """The name of the backbone that a model finds objects by; None for its own features."""
    return getattr(getattr(sam, "features", None), "name", None)


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


def versions() -> dict[str, str]:
    """Versions of what a run's results depend on."""
    names = ("fiftyone-persam", "fiftyone", "torch", "segment-anything", "numpy")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
            from ... import __version__

            found[name] = __version__ if name == "fiftyone-persam" else "unknown"
    return found
