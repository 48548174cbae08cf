"""The record of a run: what it was asked for and how it stands, as one of FiftyOne's run configs.

FiftyOne stores a run's config as plain values of any kind. Everything in this package reads and
writes it as a `RunRecord`, so that each field has one name, one type and one default, and what
earlier versions have written is brought up to date in one place (`migration`).
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from gridfs.errors import GridFSError

from ...errors import PersamError
from .migration import VERSION, migrate

TOOL = "fiftyone-persam"


class RunState:
    """In which state a record says that its run is; see `Run.state` for the state it is in."""

    RUNNING, DONE, INTERRUPTED, FAILED = "running", "done", "interrupted", "failed"


T = TypeVar("T")


@dataclass(frozen=True)
class Parameters:
    """What a run was asked for, beside photos, references, method and model. Plain values.

    Attributes:
        label_field: where the references' labels are.
        group_by: field that names each photo's object, or None for one object.
        mask_value: which value of the references' masks is the object.
        label_type: "segmentation", "detections" or "both".
        mask_storage: "auto", "file" or "inline".
        similarity: whether to write heatmaps.
        prompts: whether to write prompt points.
        compare_photos: whether the photos of an object are compared with one another in the end.
        presence_threshold: presence below which the object counts as absent; 0 for never, None
            for the method's own.
        options: of the method: ``mode``, and what can be switched off for an ablation.
        features: name of the backbone that finds the object; None for the model's own.
        use_rejected: whether masks that reviews of the object have rejected say what it is not.
        sequence_field: what each photo is a frame of; None for photos by themselves.
        order_field: by what the frames of a sequence are sorted; None for the files' names.
        frame_files: whether frames of videos were read from the files they were sampled into.
        objects: names of the objects where a photo may have several, in the order of their values
            in masks; empty for one object, or one per photo.
    """

    label_field: str = "ground_truth"
    group_by: str | None = None
    mask_value: int | str | None = None
    label_type: str = "segmentation"
    mask_storage: str = "auto"
    similarity: bool = False
    prompts: bool = False
    compare_photos: bool = False
    presence_threshold: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    features: str | None = None
    sequence_field: str | None = None
    order_field: str | None = None
    frame_files: bool = False
    objects: list[str] = field(default_factory=list)
    use_rejected: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class ReferenceRecord:
    """A reference as a run remembers it; see `SampleReference` for the meaning of each value.

    Attributes:
        dataset_id: None in records of earlier versions, which have only the dataset's name.
        mask_threshold: value above which a pixel of a soft mask counted; None for other masks.
        kind: which prompt the label was: "mask", "box" or "points"; "text" for a phrase that has
            neither photo nor label.
        fingerprint: tells whether the label has changed since.
        shown: box or points that the view which was given showed in place of the label's own.
        text: the phrase; that which found the label, if one did.
        frame: number of the frame of a video, from 1; None for a photo.
    """

    sample_id: str
    label_field: str
    filepath: str
    group: str = ""
    label_id: str | None = None
    mask_value: int | str | None = None
    mask_threshold: float | None = None
    dataset: str | None = None
    dataset_id: str | None = None
    name: str | None = None
    kind: str | None = None
    fingerprint: str | None = None
    shown: dict[str, Any] | None = None
    text: str | None = None
    frame: int | None = None


@dataclass(frozen=True)
class EarlierCall:
    """How masks were made that a later call of the same run may have left in place."""

    method: str
    model: str
    references: tuple[ReferenceRecord, ...]
    parameters: Parameters
    versions: dict[str, str] = field(default_factory=dict)
    negatives: tuple[ReferenceRecord, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EarlierCall:
        """From plain values."""
        return _from_dict(cls, _typed(values))


@dataclass(frozen=True)
class RunRecord:
    """Everything that is stored with a run beside its results.

    Attributes:
        method: the method's name.
        model: the model's name; "custom" for one of the user's own.
        references: what the object was learnt from.
        parameters: what else was asked for.
        masks_dir: the folder of mask files.
        run_id: marks that folder.
        state: "running", "done", "interrupted" or "failed"; see `Run.state`.
        reason: why the run failed; "" otherwise.
        checkpoint_sha256: of the model's checkpoint; None for weights that came from no file.
        weights_sha256: of the weights themselves, where there is no checkpoint or another backbone
            beside it.
        device, dtype, backend: where and how the last call computed.
        compiled: whether the last call compiled the image encoder.
        versions: of this package and of those that results depend on.
        earlier: how masks of earlier calls were made, where it differs.
        reviewed_threshold: the presence threshold that the run's reviewer has chosen, for clones
            and exports of the dataset, which lack what a review stores; see `presence`.
        negatives: what the object is not; ``group`` is "" where that is so of all objects.
    """

    method: str
    model: str
    references: tuple[ReferenceRecord, ...]
    parameters: Parameters
    masks_dir: str
    run_id: str
    state: str
    reason: str = ""
    checkpoint_sha256: str | None = None
    weights_sha256: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    backend: str = "local"
    compiled: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    earlier: tuple[EarlierCall, ...] = ()
    reviewed_threshold: float | None = None
    negatives: tuple[ReferenceRecord, ...] = ()

    @classmethod
    def from_config(cls, config: Any, name: str = "") -> RunRecord:
        """The record in a run's config, whichever version of this package wrote it.

        Args:
            config: FiftyOne's config of the run.
            name: the run's name, for messages.

        Raises:
            PersamError: a later version has written it, or values are missing.
        """
        values = migrate(_plain({**vars(config), "method": config.method}), name)
        try:
            values["earlier"] = tuple(EarlierCall.from_dict(one) for one in values["earlier"])
            return _from_dict(cls, _typed(values))
        except (KeyError, TypeError, AttributeError) as error:
            raise PersamError(
                f"the record of run {name!r} is damaged ({error}): delete it with "
                f"dataset.delete_run({name!r}), and its fields with delete_sample_fields"
            ) from None

    def to_config(self, config: Any) -> Any:
        """Put the record into one of FiftyOne's run configs, as plain values.

        Args:
            config: as `Dataset.init_run` makes it.

        Returns:
            the same config
        """
        values = {key: _plain(value) for key, value in asdict(self).items()}
        for key, value in {"tool": TOOL, "record_version": VERSION, **values}.items():
            setattr(config, key, value)
        return config

    @property
    def folder(self) -> Path:
        """The folder of mask files."""
        return Path(self.masks_dir)

    @property
    def call(self) -> EarlierCall:
        """How the masks of this call are made."""
        shared = {one.name: getattr(self, one.name) for one in fields(EarlierCall)}
        return EarlierCall(**shared)


@dataclass(frozen=True)
class Outcome:
    """What a run has stored as its results.

    Attributes:
        ids: the sample ids of the last call; None if the run was killed before they were stored.
        timings: see `Run.timings`.
    """

    ids: list[str] | None = None
    timings: dict[str, float] = field(default_factory=dict)


def read_record(dataset: Any, run: str) -> RunRecord:
    """The record of a run that is there."""
    return RunRecord.from_config(dataset.get_run_info(run).config, run)


def write_record(dataset: Any, run: str, record: RunRecord) -> None:
    """Replace the record of a run that is there."""
    dataset.update_run_config(run, record.to_config(dataset.init_run()))


def update_record(dataset: Any, run: str, **changes: Any) -> RunRecord:
    """Change some values of a run's record. The run's lease must be held."""
    changed = replace(read_record(dataset, run), **changes)
    write_record(dataset, run, changed)
    return changed


def read_outcome(dataset: Any, run: str) -> Outcome:
    """What a run has stored beside its record; empty if that is not there, as after a kill."""
    try:
        results = dataset.load_run_results(run, cache=False, load_view=False)
    except (GridFSError, ValueError, AttributeError):
        # Its file is gone, or not whole: mongoengine makes None of what is not there.
        return Outcome()
    ids = getattr(results, "ids", None)
    return Outcome(None if ids is None else list(ids), dict(getattr(results, "timings", {}) or {}))


# ----------------------------------------------------------------------------------------------


def _from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    known = {one.name for one in fields(cls)}  # type: ignore[arg-type]
    return cls(**{key: value for key, value in values.items() if key in known})


def _typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, with references and parameters as what they are."""
    references, negatives = (
        tuple(_from_dict(ReferenceRecord, one) for one in listed)
        for listed in (values["references"], values.get("negatives", ()))
    )
    parameters = _from_dict(Parameters, values["parameters"])
    known = {"references": references, "negatives": negatives, "parameters": parameters}
    return {**values, **known}


def _plain(value: Any) -> Any:
    """Lists and dicts in place of tuples and of what the database's driver gives back."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value


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
