"""The command line: thin over the library's own functions."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from .. import __version__
from ..curation.handover.formats import EXPORTERS
from ..datasets.importers import IMPORTERS
from ..datasets.training_layouts import TRAINING_LAYOUTS
from ..engine.choice import BACKENDS
from ..errors import PersamError, RunStoppedError
from ..personalize.registries import METHODS
from . import commands, curating
from .common import add_cache


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 where it ran but found every photo or a checkpoint bad; 2 where something that was
        given, or the machine, kept it from running, with one line on stderr; 130 after Ctrl-C or
        `runs stop`.
    """
    options = build_parser().parse_args(arguments)
    # Where other programs want the processor too, torch's threads would spin while they wait for
    # each other: ten times slower on two busy cores. Read when torch is imported, so set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _heed_interrupts()
    try:
        return int(options.command(options) or 0)
    except KeyboardInterrupt:
        print("stopped: what is finished is kept, see `runs resume`", file=sys.stderr)
        return 130
    except RunStoppedError as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 130
    except Exception as error:
        if not _is_expected(error):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(
        prog="fiftyone-persam",
        description="Segment your own object in all your photos from one labelled sample.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = subparsers.add_parser("demo", help="segment a small album and score it")
    demo.add_argument("--out", default="demo_out", help="folder for the album and the picture")
    demo.add_argument(
        "--perseg-dir",
        default=os.environ.get("PERSEG_DIR") or None,
        help="the real PerSeg instead of the album (or set PERSEG_DIR)",
    )
    _add_model(demo)
    demo.set_defaults(command=commands.demo)

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

    methods = subparsers.add_parser("methods", help="list methods and their options")
    methods.add_argument("names", nargs="*", metavar="METHOD", help="only these; all if left out")
    methods.set_defaults(command=commands.methods_list)

    segment = subparsers.add_parser("segment", help="segment the photos of a dataset")
    segment.add_argument("dataset", help="a FiftyOne dataset")
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
    curating.add_negatives(segment)
    segment.add_argument("--label-id", help="which label of the reference")
    segment.add_argument("--reference-tag", metavar="TAG", help="references: samples with a tag")
    segment.add_argument("--label-field", default="ground_truth", help="the references' labels")
    segment.add_argument("--mask-value", type=_mask_value, help="which value of their masks")
    _add_mask_class(segment)
    segment.add_argument("--group-by", metavar="FIELD", help="field that names each object")
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
    segment.add_argument("--sequence-field", metavar="FIELD", help="names each photo's sequence")
    segment.add_argument("--order-field", metavar="FIELD", help="sorts the photos of a sequence")
    segment.add_argument("--skip-existing", action="store_true", help="go on with this run")
    segment.add_argument("--overwrite", action="store_true", help="do these photos again")
    segment.add_argument("--mask-storage", default="auto", choices=("auto", "file", "inline"))
    segment.add_argument("--masks-dir", metavar="DIR", help="folder of the mask files")
    segment.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16")
    )
    segment.add_argument(
        "--compile",
        default="auto",
        choices=("auto", "on", "off"),
        help="compile the image encoder; auto: for long jobs on a GPU that gain by it",
    )
    _add_view(segment)
    _add_model(segment)
    _add_features(segment)
    _add_engine(segment)
    segment.set_defaults(command=commands.segment)

    evaluate = subparsers.add_parser("evaluate", help="compare masks with ground truth")
    evaluate.add_argument("dataset", help="a FiftyOne dataset")
    evaluate.add_argument("pred_field", help="predictions, such as a run's name")
    evaluate.add_argument("--gt-field", default="ground_truth")
    evaluate.add_argument("--eval-key", help="store it under this name")
    evaluate.add_argument("--group-by", metavar="FIELD", help="field that names each object")
    evaluate.add_argument("--mask-value", type=_mask_value, help="which value of the true masks")
    _add_mask_class(evaluate)
    evaluate.add_argument("--include-references", action="store_true")
    evaluate.add_argument(
        "--method",
        choices=("perseg", "davis"),
        default="perseg",
        help="davis: objects that are followed, J and F, of videos or photos in sequences",
    )
    evaluate.add_argument("--sequence-field", metavar="FIELD", help="names each photo's sequence")
    evaluate.add_argument("--order-field", metavar="FIELD", help="sorts the photos of a sequence")
    evaluate.add_argument(
        "--on-error",
        choices=("skip", "raise"),
        default="skip",
        help="what becomes of photos with a damaged label: left out and named, or refused",
    )
    _add_view(evaluate)
    evaluate.set_defaults(command=commands.evaluate)

    _add_view(curating.add_suggest(subparsers))
    _add_view(curating.add_again(subparsers))
    for action in curating.add_review(subparsers):
        _add_view(action)
    _add_view(curating.add_compare(subparsers))
    _add_view(curating.add_promote(subparsers))
    _add_view(curating.add_everything(subparsers))
    _add_runs(subparsers)
    _add_folders(subparsers)

    plugin = subparsers.add_parser("install-plugin", help="put the plugin into FiftyOne's folder")
    plugin.add_argument("--plugins-dir", help="another folder than FiftyOne's own")
    plugin.add_argument("--copy", action="store_true", help="copy instead of linking")
    plugin.set_defaults(command=commands.install_plugin)

    doctor = subparsers.add_parser("doctor", help="check device, checkpoints, database, versions")
    doctor.set_defaults(command=commands.doctor)
    return parser


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
        action = actions.add_parser(name, help=text)
        action.add_argument("dataset", help="a FiftyOne dataset")
        if name != "list":
            action.add_argument("run", help="a run's name")
        if name == "rename":
            action.add_argument("new_name")
        if name == "resume":
            action.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
            _add_engine(action)
        action.set_defaults(command=command)


def _add_folders(subparsers: Any) -> None:
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

    exporting = _exporter(
        subparsers, "export", commands.export_album, "write photos and a run's masks to a folder"
    )
    exporting.add_argument("--format", default="perseg", choices=tuple(EXPORTERS))
    exporting.add_argument(
        "--state",
        action="append",
        choices=("todo", "accepted", "rejected", "absent"),
        help="photos in this state of review; repeatable; accepted if left out",
    )
    exporting.add_argument("--group-by", metavar="FIELD", help="field that names each object")
    _add_dreambooth(subparsers)


# ----------------------------------------------------------------------------------------------


def _add_dreambooth(subparsers: Any) -> None:
    parser = _exporter(
        subparsers,
        "export-dreambooth",
        commands.export_dreambooth,
        "write photos, masks and captions for a diffusion trainer",
        run="a run, or a field of masks",
    )
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


def _exporter(
    subparsers: Any,
    name: str,
    command: Callable[[argparse.Namespace], None],
    text: str,
    run: str = "a run's name",
) -> argparse.ArgumentParser:
    """A command that writes masks of a dataset into a folder."""
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=text)
    parser.add_argument("dataset", help="a FiftyOne dataset")
    parser.add_argument("run", help=run)
    parser.add_argument("folder", help="a new or empty folder")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    _add_view(parser)
    parser.set_defaults(command=command)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="sam_lite", help="see `models list`")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")


def _add_features(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--features", metavar="SOURCE", help="another backbone to find the object by: timm/<model>"
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=int, help="photos encoded at once")
    parser.add_argument("--num-workers", type=int, help="threads that load photos")
    parser.add_argument(
        "--backend",
        default="local",
        choices=tuple(BACKENDS),
        help="this process, all CUDA devices of this machine, or a Ray cluster (RAY_ADDRESS)",
    )
    add_cache(parser)


def _add_view(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tag", action="append", help="only samples with this tag; repeatable")
    parser.add_argument("--view", help="only samples of this saved view")


def _add_mask_class(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mask-class",
        dest="mask_value",
        metavar="NAME",
        help="or which class, by its name in the field's mask_targets",
    )


def _mask_value(text: str) -> int | str:
    return text if text.startswith("#") else int(text)


def _heed_interrupts() -> None:
    """Let SIGINT end the command, as Ctrl-C does.

    A shell that starts a program in the background, and job runners, have it ignored; the program
    inherits that, and could only be killed.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may change it
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_expected(error: Exception) -> bool:
    """Whether a traceback would tell nobody anything: bad input, disk, network, database."""
    if isinstance(error, (PersamError, OSError)):
        return True
    return type(error).__module__.startswith(("fiftyone.core.service", "pymongo."))


if __name__ == "__main__":
    sys.exit(main())
