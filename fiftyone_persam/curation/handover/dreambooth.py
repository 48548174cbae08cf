"""Masked training sets for DreamBooth: photos of one object, its masks, captions.

Source: Zhang et al., Personalize Segment Anything Model with One Shot, section 3.4. What trains on
the set is `fiftyone_persam.dreambooth`, or any trainer that reads one of the layouts.
"""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from pathlib import Path

from ... import __version__
from ...datasets.concept_layouts import ConceptWriter
from ...datasets.concept_photo import PhotoOptions, prepare_photo
from ...datasets.staging import check_folder, staged
from ...datasets.training_layouts import TRAINING_LAYOUTS
from ...errors import PersamError
from ...options import as_number
from ...sam.photos import load_photo
from ..checks import check_progress, check_switches, check_text, folder_path
from ..database import root
from ..frame_store import check_photos_only
from ..labels.masks import union_mask
from ..named_files import named_files
from ..progress import Progress, StoppedError, reporting
from ..review.table import Collection
from .captions import Captions
from .concept_sources import ChosenPhoto, choose_source
from .export import Exported

logger = logging.getLogger(__name__)

CAPTION = "a photo of sks {label}"


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
    check_photos_only(dataset, "exporting training photos")
    options = PhotoOptions(
        crop=crop,
        padding=padding,
        resolution=resolution,
        background=background,
        dilate=dilate,
        feather=feather,
    )
    TRAINING_LAYOUTS.check(layout)
    check_switches(only_accepted=only_accepted, overwrite=overwrite)
    check_progress(progress)
    if label is not None:
        check_text("label", label)
    least = None if min_score is None else as_number("min_score", min_score, high=1)
    folder = folder_path("out_dir", out_dir)
    captions = Captions(dataset, caption)
    source = choose_source(view, run_or_label_field, only_accepted, least, label)
    advice = ""
    if source.is_run and only_accepted:
        advice = ": accept masks in review first, or give only_accepted=False"
    chosen, left_out = source.choose()
    if not chosen:
        raise PersamError(_nothing(run_or_label_field, left_out, advice))
    texts = captions.of(source.samples(chosen), {i: source.called(i) for i in chosen})
    check_out_dir(folder, overwrite)
    try:
        with staged(folder, overwrite) as stage:
            writer = ConceptWriter(stage.path, layout, options, folder)
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


def _write(
    writer: ConceptWriter,
    photo: ChosenPhoto,
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


def _nothing(name: str, left_out: dict[str, str], advice: str) -> str:
    if left_out:
        return (
            f"no photo of {name!r} can be exported{advice} "
            f"({len(left_out)} left out, the first: {next(iter(left_out.values()))})"
        )
    return f"{name!r} has no photo to export{advice}"
