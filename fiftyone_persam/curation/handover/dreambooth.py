"""Masked training sets for DreamBooth: photos of one object, its masks, captions.

Source: Zhang et al., Personalize Segment Anything Model with One Shot, section 3.4. What trains on
the set is `fiftyone_persam.dreambooth`, or any trainer that reads one of the layouts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np

from ... import __version__
from ...datasets.concept_layouts import ConceptWriter, check_layout
from ...datasets.concept_photo import PhotoOptions, prepare_photo
from ...errors import PersamError, did_you_mean
from ...sam.photos import load_photo
from ..checks import MASKS, check_progress, check_switches, check_text, folder_path
from ..database import photos_of, root
from ..labels.masks import union_mask
from ..named_files import named_files
from ..progress import Progress, StoppedError, reporting
from ..review.editing import corrected_fields, latest_label
from ..review.table import ABSENT, ACCEPTED, FAILED, TODO, Collection, review_table
from ..runs.naming import run_names
from .captions import Captions
from .export import Exported, _move, _staging, check_folder

logger = logging.getLogger(__name__)

CAPTION = "a photo of sks {label}"
OBJECT = "object"

# What a run's record tells of how its masks were made; no paths of this machine.
_RECORDED = ("method", "model", "checkpoint_sha256", "parameters", "versions", "run_id")
_REFERENCE = ("group", "name", "sample_id", "label_field", "label_id")


@dataclass(frozen=True)
class _Chosen:
    """One photo that can be exported."""

    sample: Any
    label: Any
    called: str
    score: float | None
    presence: float | None


def export_dreambooth(
    view: Collection,
    run_or_label_field: str,
    out_dir: str | os.PathLike[str],
    layout: str = "diffusers",
    crop: str = "none",
    padding: float = 0.1,
    resolution: int | None = None,
    background: str = "keep",
    dilate: float = 0,
    feather: float = 0,
    caption: str = CAPTION,
    only_accepted: bool = True,
    min_score: float | None = None,
    label: str | None = None,
    overwrite: bool = False,
    progress: Progress = False,
) -> Exported:
    """Write photos of an object, their masks and captions, for a diffusion model's trainer.

    Photos are turned upright, then cropped, then resized. Where the object is absent, or the photo
    or its mask cannot be read, the photo is left out and reported. Everything is prepared aside and
    moved into place at the end: an export that fails leaves nothing behind.

    Masks corrected by hand are taken in place of the run's.

    Args:
        view: a dataset or view; of a label field, labels that the view hides are left out.
        run_or_label_field: a run, or a field of ``Segmentation``, ``Detection`` or ``Detections``
            (boxes without a mask count as full boxes, several objects as one).
        out_dir: folder to write; must be empty or missing unless ``overwrite``.
        layout: "diffusers" (``images/``, ``masks/``, captions in ``metadata.jsonl``), "kohya"
            (``.txt`` captions, masks in a folder of their own, ``dataset.toml``), "onetrainer"
            (``name-masklabel.png`` and ``name.txt`` beside ``name.png``, ``concepts.json``) or
            "rgba" (the mask as alpha channel, ``.txt`` captions, ``dataset.toml``).
        crop: "none", "square" around the object, or its "box".
        padding: room around the object, as a share of its longer side, 0 to 10.
        resolution: sides in pixels; see :class:`~fiftyone_persam.datasets.PhotoOptions`.
        background: "keep", or "white", "gray" or "blur" in place of what the mask leaves out.
        dilate: pixels by which the mask grows, at the written size. Trainers average masks over
            8 x 8 pixels, so a few keep the object's edge.
        feather: width in pixels of a ramp around the mask on which the weight falls to 0.
        caption: a template with ``{label}``, ``{tags}`` or the names of fields; the name of a field
            that holds the captions; or one text for all photos.
        only_accepted: of a run, only masks that were accepted in review; otherwise also those that
            nobody has looked at. Rejected ones are never exported.
        min_score: leave out photos whose score (of a run) or confidence (of labels) is lower.
        label: what ``{label}`` is; default: the labels' class, the reference's, or "object".
        overwrite: replace the files that an earlier export has written to the folder; those that
            somebody added stay, and other folders are refused.
        progress: True for a bar, or a function of done and total.

    Returns:
        how many photos were exported, with ``left_out``: why others were not

    Raises:
        PersamError: an argument cannot be used, the folder is occupied, or there is nothing to
            export
    """
    dataset = root(view)
    options = PhotoOptions(
        crop=crop,
        padding=padding,
        resolution=resolution,
        background=background,
        dilate=dilate,
        feather=feather,
    )
    check_layout(layout)
    check_switches(only_accepted=only_accepted, overwrite=overwrite)
    check_progress(progress)
    if label is not None:
        check_text("label", label)
    least = _least_score(min_score)
    folder = folder_path("out_dir", out_dir)
    captions = Captions(dataset, caption)
    source = _source(view, run_or_label_field, only_accepted, least, label)
    advice = ""
    if source.is_run and only_accepted:
        advice = ": accept masks in review first, or give only_accepted=False"
    chosen, left_out = source.choose()
    if not chosen:
        raise PersamError(_nothing(run_or_label_field, left_out, advice))
    texts = captions.of(source.samples(chosen), {i: source.called(i) for i in chosen})
    earlier = check_out_dir(folder, overwrite)
    try:
        with _staging(folder) as aside:
            writer = ConceptWriter(aside, layout, options, folder)
            with reporting(progress, len(chosen)) as report:
                for done, photo in enumerate(source.read(chosen), 1):
                    reason = _write(writer, photo, run_or_label_field, texts, options)
                    if reason is not None:
                        left_out[photo.sample.id] = reason
                    report(done)
            if not len(writer):
                raise PersamError(_nothing(run_or_label_field, left_out, advice))
            asked = {
                "layout": layout,
                **asdict(options),
                "caption": caption,
                "only_accepted": only_accepted,
                "min_score": least,
            }
            manifest = {
                "tool": "fiftyone-persam",
                "version": __version__,
                "dataset": dataset.name,
                **source.record(),
                "export": asked,
                "photos": len(writer),
                "left_out": [{"sample_id": i, "reason": r} for i, r in left_out.items()],
            }
            called = {source.called(i) for i in chosen}
            writer.finish(called.pop() if len(called) == 1 else dataset.name, manifest)
            _move(aside, folder, earlier)
    except StoppedError as stopped:
        raise stopped.cause from None
    if left_out:
        first = next(iter(left_out.values()))
        logger.warning("%d photos are left out, the first: %s", len(left_out), first)
    return Exported(len(writer), list(left_out.values()))


def check_out_dir(folder: Path, overwrite: bool) -> list[str]:
    """The files of an earlier export that a new one replaces, as paths inside ``folder``.

    Raises:
        PersamError: ``folder`` is a file, is occupied, or holds files that a dataset names
    """
    earlier = check_folder(folder, overwrite)
    if named := named_files(folder / name for name in earlier):
        raise PersamError(
            f"{len(named)} files of the earlier export in {folder} belong to a dataset, the first "
            f"{min(named).name}: choose another folder"
        )
    return earlier


# ----------------------------------------------------------------------------------------------


class _Labels:
    """Photos with labels that a person, or another tool, has made."""

    is_run = False

    def __init__(self, view: Any, field: str, least: float | None, label: str | None) -> None:
        self._dataset, self._field, self._least, self._label = root(view), field, least, label
        self._view = _with_field(view, field)
        self._called: dict[str, str] = {}

    def choose(self) -> tuple[list[str], dict[str, str]]:
        """Ids of photos to export, and id -> reason of those to leave out."""
        if self._least is not None and not self._has_confidence():
            raise PersamError(f"no label in {self._field!r} has a confidence: leave min_score out")
        chosen, left_out = [], {}
        for sample in self._view.select_fields(self._field):
            label, where = sample[self._field], Path(sample.filepath).name
            kept = self._kept(label)
            if label is None or kept is None:
                low = label is not None and bool(_instances(label))
                left_out[sample.id] = (
                    f"{where}: score below {self._least}" if low else f"{where}: object absent"
                )
                continue
            chosen.append(sample.id)
            self._called[sample.id] = self._label or _class_of(self._dataset, self._field, kept)
        return chosen, left_out

    def called(self, sample_id: str) -> str:
        """What the object of a photo is called."""
        return self._called[sample_id]

    def samples(self, ids: list[str]) -> dict[str, str]:
        """Id -> id of the sample in the dataset; patches have ids of their own."""
        if not self._view.view()._is_patches:
            return {i: i for i in ids}
        found = self._view.select(ids).values(["id", "sample_id"])
        return dict(zip(*found, strict=True))

    def read(self, ids: list[str]) -> Iterator[_Chosen]:
        """Chosen photos one by one."""
        for sample in self._view.select(ids, ordered=True).select_fields(self._field):
            kept = self._kept(sample[self._field])
            scores = [one.confidence for one in _instances(kept) if one.confidence is not None]
            score = min(scores) if scores else None
            yield _Chosen(sample, kept, self._called[sample.id], score, None)

    def record(self) -> dict[str, Any]:
        """Where the masks are from."""
        return {"label_field": self._field, "run": None}

    def _kept(self, label: Any) -> Any:
        """The label without objects of low confidence; None if nothing is left."""
        if not isinstance(label, (fo.Detection, fo.Detections)):
            return label
        kept = [
            one
            for one in _instances(label)
            if self._least is None or (one.confidence is not None and one.confidence >= self._least)
        ]
        return fo.Detections(detections=kept) if kept else None

    def _has_confidence(self) -> bool:
        kind = self._dataset.get_field(self._field).document_type
        if kind is fo.Segmentation:
            return False
        path = f"{self._field}.detections" if kind is fo.Detections else self._field
        return bool(self._view.count(f"{path}.confidence"))


class _Run:
    """Photos with masks of a run."""

    is_run = True

    def __init__(
        self, view: Any, run: str, only_accepted: bool, least: float | None, label: str | None
    ) -> None:
        self._dataset, self._run, self._least = root(view), run, least
        self._table = review_table(_with_field(view, run), run)
        self._states = (ACCEPTED,) if only_accepted else (TODO, ACCEPTED)
        self._row = {sample_id: row for row, sample_id in enumerate(self._table.ids)}
        self._config = self._dataset.get_run_info(run).config
        self._label = label
        self._groups: dict[str, str] = {}

    def choose(self) -> tuple[list[str], dict[str, str]]:
        """Ids of photos to export, and id -> reason of those to leave out."""
        table = self._table
        files = self._photos(table.ids).values("filepath")
        chosen, left_out = [], {}
        for row, sample_id in enumerate(table.ids):
            where, state = Path(files[row]).name, table.states[row]
            if state == ABSENT:
                left_out[sample_id] = f"{where}: object absent (presence {table.presence[row]:.2f})"
            elif state == FAILED:
                left_out[sample_id] = f"{where}: not segmented, see {self._run}_error"
            elif state in self._states:
                score = table.score[row]
                if self._least is not None and not score >= self._least:
                    left_out[sample_id] = f"{where}: score {score:.2f}, below {self._least}"
                else:
                    chosen.append(sample_id)
        self._groups = self._groups_of(chosen)
        return chosen, left_out

    def called(self, sample_id: str) -> str:
        """What the object of a photo is called."""
        if self._label is not None:
            return self._label
        group = self._groups.get(sample_id, "")
        for reference in self._config.references:
            if reference["group"] == group and reference.get("name"):
                return str(reference["name"])
        return group or OBJECT

    def samples(self, ids: list[str]) -> dict[str, str]:
        """Id -> id of the sample in the dataset."""
        return {i: i for i in ids}

    def read(self, ids: list[str]) -> Iterator[_Chosen]:
        """Chosen photos one by one."""
        corrected = corrected_fields(self._dataset, self._run)
        for sample in self._photos(ids):
            row = self._row[sample.id]
            yield _Chosen(
                sample,
                latest_label(sample, self._run, corrected),
                self.called(sample.id),
                _plain(self._table.score[row]),
                _plain(self._table.presence[row]),
            )

    def record(self) -> dict[str, Any]:
        """Where the masks are from."""
        found = {key: getattr(self._config, key, None) for key in _RECORDED}
        references = [
            {key: reference.get(key) for key in _REFERENCE} for reference in self._config.references
        ]
        return {
            "label_field": self._run,
            "run": {"name": self._run, **found, "references": references},
        }

    def _photos(self, ids: list[str]) -> Any:
        return photos_of(self._dataset).select(ids, ordered=True)

    def _groups_of(self, ids: list[str]) -> dict[str, str]:
        group_by = (self._config.parameters or {}).get("group_by")
        if group_by is None or not self._dataset.has_field(group_by):
            return {}
        found = self._photos(ids).values(["id", group_by])
        return {i: str(group) for i, group in zip(*found, strict=True) if group is not None}


def _with_field(view: Any, field: str) -> Any:
    """A view of the same photos in which a field of the dataset can be read."""
    view = view.flatten() if getattr(view, "_is_dynamic_groups", False) else view
    if field in view.get_field_schema():
        return view
    return photos_of(root(view)).select(view.values("id"), ordered=True)


def _source(
    view: Any, name: Any, only_accepted: bool, least: float | None, label: str | None
) -> _Run | _Labels:
    dataset = root(view)
    runs = run_names(dataset)
    if isinstance(name, str) and name in runs:
        return _Run(view, name, only_accepted, least, label)
    field = dataset.get_field(name) if isinstance(name, str) else None
    if field is None:
        known = [*runs, *dataset.get_field_schema()]
        raise PersamError(
            f"dataset {dataset.name!r} has no run and no field {name!r}: run_or_label_field names "
            f"one{did_you_mean(name, known)}"
        )
    if getattr(field, "document_type", None) not in MASKS:
        raise PersamError(
            f"run_or_label_field {name!r} holds no masks: it must be a run, or a field of "
            "Segmentation or Detections"
        )
    return _Labels(view, name, least, label)


def _write(
    writer: ConceptWriter,
    photo: _Chosen,
    field: str,
    texts: dict[str, str],
    options: PhotoOptions,
) -> str | None:
    """Write one photo; returns why it was left out, or None."""
    sample = photo.sample
    path = Path(sample.filepath)
    try:
        pixels = load_photo(path)
        where = f"the mask of {path.name} in {field!r}"
        mask = union_mask(photo.label, (pixels.shape[0], pixels.shape[1]), where)
        if not mask.any():
            return f"{path.name}: object absent"
        prepared = prepare_photo(pixels, mask, options)
    except PersamError as error:
        return str(error)
    facts = {"sample_id": sample.id, "score": photo.score, "presence": photo.presence}
    writer.add(path.name, prepared, texts[sample.id], facts)
    return None


def _instances(label: Any) -> list[Any]:
    if isinstance(label, fo.Detections):
        return list(label.detections)
    return [label] if isinstance(label, fo.Detection) else []


def _class_of(dataset: Any, field: str, label: Any) -> str:
    names = [one.label for one in _instances(label) if one.label]
    if isinstance(label, fo.Segmentation):
        targets = dataset.mask_targets.get(field) or dataset.default_mask_targets or {}
        names = [name for value, name in targets.items() if value not in (0, "#000000")]
        names = names if len(names) == 1 else []
    return ", ".join(dict.fromkeys(names)) or OBJECT


def _least_score(value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, (bool, str)) or not 0 <= number <= 1:
        raise PersamError(f"min_score {value!r} cannot be used: give a number from 0 to 1")
    return number


def _plain(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def _nothing(name: str, left_out: dict[str, str], advice: str) -> str:
    if left_out:
        return (
            f"no photo of {name!r} can be exported{advice} "
            f"({len(left_out)} left out, the first: {next(iter(left_out.values()))})"
        )
    return f"{name!r} has no photo to export{advice}"
