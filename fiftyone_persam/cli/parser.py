"""The commands and what they take; what they do is in `commands` and `curating`."""

from __future__ import annotations

import argparse
import os
from typing import Any

from .. import __version__
from ..curation.handover.formats import EXPORTERS
from ..datasets.importers import IMPORTERS
from ..datasets.training_layouts import TRAINING_LAYOUTS
from ..personalize.registries import METHODS
from . import commands, curating
from .arguments import (
    RUN,
    Parser,
    add_command,
    add_device,
    add_engine,
    add_group_by,
    add_mask_value,
    add_model,
    add_sequences,
    add_view,
)


def build_parser() -> Parser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(
        prog="fiftyone-persam",
        description="Segment your own object in all your photos from one labelled sample.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_demo,
        _add_models,
        _add_methods,
        _add_segment,
        _add_evaluate,
        curating.add_suggest,
        curating.add_again,
        curating.add_review,
        curating.add_compare,
        curating.add_promote,
        curating.add_everything,
        _add_runs,
        _add_import,
        _add_export,
        _add_dreambooth,
        _add_plugin,
        _add_doctor,
    ):
        add(subparsers)
    return parser


def _add_demo(subparsers: Any) -> None:
    demo = subparsers.add_parser("demo", help="segment a small album and score it")
    demo.add_argument("--out", default="demo_out", help="folder for the album and the picture")
    demo.add_argument(
        "--perseg-dir",
        default=os.environ.get("PERSEG_DIR") or None,
        help="the real PerSeg instead of the album (or set PERSEG_DIR)",
    )
    add_model(demo)
    add_device(demo)
    demo.set_defaults(command=commands.demo)


def _add_models(subparsers: Any) -> None:
    models = subparsers.add_parser("models", help="list, download and verify models")
    actions = models.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="what there is").set_defaults(command=commands.models_list)
    for name, command, text in (
        ("download", commands.models_download, "fetch checkpoints"),
        ("verify", commands.models_verify, "check hashes"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("names", nargs="*" if name == "verify" else "+", metavar="MODEL")
        action.set_defaults(command=command)


def _add_methods(subparsers: Any) -> None:
    methods = subparsers.add_parser("methods", help="list methods and their options")
    methods.add_argument("names", nargs="*", metavar="METHOD", help="only these; all if left out")
    methods.set_defaults(command=commands.methods_list)


def _add_segment(subparsers: Any) -> None:
    text = "segment the photos of a dataset"
    segment = add_command(subparsers, "segment", commands.segment, text)
    _add_references(segment)
    curating.add_negatives(segment)
    _add_method(segment)
    _add_results(segment)
    segment.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16")
    )
    segment.add_argument(
        "--compile",
        default="auto",
        choices=("auto", "on", "off"),
        help="compile the image encoder; auto: for long jobs on a GPU that gain by it",
    )
    add_view(segment)
    add_model(segment)
    add_device(segment)
    segment.add_argument(
        "--features", metavar="SOURCE", help="another backbone to find the object by: timm/<model>"
    )
    add_engine(segment)


def _add_references(segment: Parser) -> None:
    segment.add_argument(
        "--reference",
        action="append",
        metavar="ID",
        help="id of a labelled sample, or ID:LABEL; repeatable",
    )
    segment.add_argument(
        "--phrase",
        metavar="WORDS",
        help="the object in words, such as 'the blue mug': in the photo of --reference, in a photo "
        "of the dataset, or, with --method evf_sam, in every photo",
    )
    segment.add_argument(
        "--object",
        action="append",
        metavar="NAME=ID",
        help="one of several objects: its name, and the id of a labelled sample, or ID:LABEL for "
        "one of its labels; repeatable, several times for one name too",
    )
    segment.add_argument("--label-id", help="which label of the reference")
    segment.add_argument("--reference-tag", metavar="TAG", help="references: samples with a tag")
    segment.add_argument("--label-field", default="ground_truth", help="the references' labels")
    add_mask_value(segment, "their")
    add_group_by(segment)


def _add_method(segment: Parser) -> None:
    names = tuple(METHODS)
    segment.add_argument("--method", default=names[0], choices=names, help="see `methods`")
    segment.add_argument("--mode", help="the method's, such as reference: as the released code")
    segment.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method, see `methods`; repeatable",
    )


def _add_results(segment: Parser) -> None:
    segment.add_argument("--out-field", default="persam", help="name of the run and its field")
    segment.add_argument(
        "--label-type",
        choices=("segmentation", "detections", "both"),
        help="detections for videos and sequences, segmentation for photos if left out",
    )
    segment.add_argument("--similarity", action="store_true", help="write similarity maps")
    segment.add_argument("--prompts", action="store_true", help="write prompt points")
    segment.add_argument("--presence-threshold", type=float, help="0 for never absent")
    segment.add_argument(
        "--compare-photos",
        action="store_true",
        help="photos whose match is far behind the run's best ones lose presence",
    )
    add_sequences(segment)
    segment.add_argument("--skip-existing", action="store_true", help="go on with this run")
    segment.add_argument("--overwrite", action="store_true", help="do these photos again")
    segment.add_argument("--mask-storage", default="auto", choices=("auto", "file", "inline"))
    segment.add_argument("--masks-dir", metavar="DIR", help="folder of the mask files")


def _add_evaluate(subparsers: Any) -> None:
    text = "compare masks with ground truth"
    evaluate = add_command(subparsers, "evaluate", commands.evaluate, text)
    evaluate.add_argument("pred_field", help="predictions, such as a run's name")
    evaluate.add_argument("--gt-field", default="ground_truth")
    evaluate.add_argument("--eval-key", help="store it under this name")
    add_group_by(evaluate)
    add_mask_value(evaluate, "the true")
    evaluate.add_argument("--include-references", action="store_true")
    evaluate.add_argument(
        "--method",
        choices=("perseg", "davis"),
        default="perseg",
        help="davis: objects that are followed, J and F, of videos or photos in sequences",
    )
    add_sequences(evaluate)
    evaluate.add_argument(
        "--on-error",
        choices=("skip", "raise"),
        default="skip",
        help="what becomes of photos with a damaged label: left out and named, or refused",
    )
    add_view(evaluate)


def _add_runs(subparsers: Any) -> None:
    runs = subparsers.add_parser("runs", help="list, resume, stop, rename, delete and adopt runs")
    actions = runs.add_subparsers(required=True, metavar="ACTION")
    for name, command, text in (
        ("list", commands.runs_list, "the runs of a dataset"),
        ("show", commands.runs_show, "counts, timings and failures of a run"),
        ("resume", commands.runs_resume, "go on with a run that was stopped"),
        ("stop", commands.runs_stop, "stop a run that goes on in another process"),
        ("rename", commands.runs_rename, "rename a run, its fields and its review"),
        ("delete", commands.runs_delete, "delete a run with every field and file it wrote"),
        ("adopt", commands.runs_adopt, "make fields whose run's record is gone a run again"),
    ):
        action = add_command(actions, name, command, text, run=None if name == "list" else RUN)
        if name == "rename":
            action.add_argument("new_name")
        if name == "resume":
            add_device(action)
            add_engine(action)


def _add_import(subparsers: Any) -> None:
    importing = subparsers.add_parser(
        "import", help="make a dataset of a folder in PerSeg's or another known layout"
    )
    importing.add_argument("folder", help="for PerSeg, the one that holds Images and Annotations")
    importing.add_argument("--layout", default="perseg", choices=tuple(IMPORTERS))
    importing.add_argument("--name", help="of the new dataset; the folder's if left out")
    importing.add_argument("--object", action="append", help="only this object; repeatable")
    importing.add_argument("--reference", help="file name of every object's reference photo")
    importing.add_argument("--max-samples", type=int, help="at most so many photos")
    importing.add_argument("--skip-faulty", action="store_true", help="leave faulty photos out")
    importing.set_defaults(command=commands.import_album)


def _add_export(subparsers: Any) -> None:
    text = "write photos and a run's masks to a folder"
    exporting = add_command(subparsers, "export", commands.export_album, text, run=RUN)
    _add_folder(exporting)
    exporting.add_argument("--format", default="perseg", choices=tuple(EXPORTERS))
    exporting.add_argument(
        "--state",
        action="append",
        choices=curating.STATES,
        help="photos in this state of review; repeatable; accepted if left out",
    )
    add_group_by(exporting)


def _add_dreambooth(subparsers: Any) -> None:
    text = "write photos, masks and captions for a diffusion trainer"
    parser = add_command(
        *(subparsers, "export-dreambooth", commands.export_dreambooth, text),
        run="a run, or a field of masks",
    )
    _add_folder(parser)
    parser.add_argument("--layout", default="diffusers", choices=tuple(TRAINING_LAYOUTS))
    parser.add_argument("--crop", default="none", choices=("none", "square", "box"))
    parser.add_argument(
        "--padding", type=float, default=0.1, help="around the object, share of its longer side"
    )
    parser.add_argument("--resolution", type=int, help="sides in pixels; the photos' if left out")
    parser.add_argument("--background", default="keep", choices=("keep", "white", "gray", "blur"))
    parser.add_argument("--dilate", type=float, default=0, help="pixels by which masks grow")
    parser.add_argument("--feather", type=float, default=0, help="width of masks' soft edge")
    parser.add_argument(
        "--caption",
        default="a photo of sks {label}",
        help="template with {label}, {tags} or {field}, a field of captions, or a text",
    )
    parser.add_argument("--label", help="what {label} is; the labels' class if left out")
    parser.add_argument("--min-score", type=float, help="leave out photos of a lower score")
    parser.add_argument(
        "--not-only-accepted",
        action="store_true",
        help="also masks of a run that nobody has looked at",
    )


def _add_folder(parser: Parser) -> None:
    parser.add_argument("folder", help="a new or empty folder")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    add_view(parser)


def _add_plugin(subparsers: Any) -> None:
    plugin = subparsers.add_parser("install-plugin", help="put the plugin into FiftyOne's folder")
    plugin.add_argument("--plugins-dir", help="another folder than FiftyOne's own")
    plugin.add_argument("--copy", action="store_true", help="copy instead of linking")
    plugin.set_defaults(command=commands.install_plugin)


def _add_doctor(subparsers: Any) -> None:
    doctor = subparsers.add_parser("doctor", help="check device, checkpoints, database, versions")
    doctor.set_defaults(command=commands.doctor)
