"""The command line: thin over the library's own functions."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from .errors import PersamError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0, or 1 where the library refused, or 130 after Ctrl-C.
    """
    options = build_parser().parse_args(arguments)
    try:
        return int(options.command(options) or 0)
    except PersamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(
        prog="fiftyone-persam",
        description="Segment your own object in all your photos from one labelled sample.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="segment a small album and score it")
    demo.add_argument("--out", default="demo_out", help="folder for the album and the picture")
    demo.add_argument(
        "--perseg-dir",
        default=os.environ.get("PERSEG_DIR") or None,
        help="the real PerSeg instead of the album (or set PERSEG_DIR)",
    )
    _add_model(demo)
    demo.set_defaults(command=_demo)

    models = commands.add_parser("models", help="list, download and verify models")
    actions = models.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="what there is").set_defaults(command=_models_list)
    for name, command, text in (
        ("download", _models_download, "fetch checkpoints"),
        ("verify", _models_verify, "check hashes"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("names", nargs="*" if name == "verify" else "+", metavar="MODEL")
        action.set_defaults(command=command)

    segment = commands.add_parser("segment", help="segment the photos of a dataset")
    segment.add_argument("dataset", help="a FiftyOne dataset")
    segment.add_argument(
        "--reference", action="append", metavar="ID", help="id of a labelled sample; repeatable"
    )
    segment.add_argument("--label-id", help="which label of the reference")
    segment.add_argument("--reference-tag", metavar="TAG", help="references: samples with a tag")
    segment.add_argument("--label-field", default="ground_truth", help="the references' labels")
    segment.add_argument("--mask-value", type=_mask_value, help="which value of their masks")
    segment.add_argument("--group-by", metavar="FIELD", help="field that names each object")
    segment.add_argument("--method", default="persam_f", choices=("persam", "persam_f"))
    segment.add_argument("--out-field", default="persam", help="name of the run and its field")
    segment.add_argument(
        "--label-type", default="segmentation", choices=("segmentation", "detections", "both")
    )
    segment.add_argument("--similarity", action="store_true", help="write similarity maps")
    segment.add_argument("--prompts", action="store_true", help="write prompt points")
    segment.add_argument("--presence-threshold", type=float, help="0 for never absent")
    segment.add_argument("--skip-existing", action="store_true", help="go on with this run")
    segment.add_argument("--overwrite", action="store_true", help="do these photos again")
    segment.add_argument("--batch-size", type=int)
    segment.add_argument("--num-workers", type=int)
    _add_view(segment)
    _add_model(segment)
    segment.set_defaults(command=_segment)

    evaluate = commands.add_parser("evaluate", help="compare masks with ground truth")
    evaluate.add_argument("dataset", help="a FiftyOne dataset")
    evaluate.add_argument("pred_field", help="predictions, such as a run's name")
    evaluate.add_argument("--gt-field", default="ground_truth")
    evaluate.add_argument("--eval-key", help="store it under this name")
    evaluate.add_argument("--group-by", metavar="FIELD", help="field that names each object")
    evaluate.add_argument("--include-references", action="store_true")
    _add_view(evaluate)
    evaluate.set_defaults(command=_evaluate)

    plugin = commands.add_parser("install-plugin", help="put the plugin into FiftyOne's folder")
    plugin.add_argument("--plugins-dir", help="another folder than FiftyOne's own")
    plugin.add_argument("--copy", action="store_true", help="copy instead of linking")
    plugin.set_defaults(command=_install_plugin)

    doctor = commands.add_parser("doctor", help="check device, checkpoints, database, versions")
    doctor.set_defaults(command=_doctor)
    return parser


# ----------------------------------------------------------------------------------------------


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="sam_lite", help="see `models list`")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")


def _add_view(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tag", action="append", help="only samples with this tag; repeatable")
    parser.add_argument("--view", help="only samples of this saved view")


def _mask_value(text: str) -> int | str:
    return text if text.startswith("#") else int(text)


def _demo(options: argparse.Namespace) -> None:
    from .curation.demo import run_demo

    demo = run_demo(options.out, options.perseg_dir, options.model, options.device)
    print(f"\n{demo.table}\n\nPicture: {demo.picture}")
    print(f"Open it: make app (in the checkout), or: fiftyone app launch {demo.dataset}")


def _models_list(options: argparse.Namespace) -> None:
    from .sam import list_models

    for model in list_models():
        state = "here" if model.available else "not here"
        size = f"{model.bytes / 1e6:,.0f} MB"
        print(f"{model.name:<11}{size:>9}  {model.image_size:>5} px  {state:<9} {model.source}")


def _models_download(options: argparse.Namespace) -> None:
    from .sam import load_sam

    for name in options.names:
        load_sam(name, device="cpu", dtype="float32", download=True)
        print(f"{name}: ok")


def _models_verify(options: argparse.Namespace) -> int:
    from .sam import list_models, load_sam

    failed = 0
    for name in options.names or [model.name for model in list_models() if model.available]:
        try:
            load_sam(name, device="cpu", dtype="float32", download=False)
            print(f"{name}: ok")
        except PersamError as error:
            failed += 1
            print(f"{name}: {error}", file=sys.stderr)
    return min(failed, 1)


def _segment(options: argparse.Namespace) -> int:
    from .curation import segment

    samples = _samples(options)
    references = _references(options, samples._root_dataset)
    run = segment(
        samples,
        references,
        label_field=options.label_field,
        method=options.method,
        model=options.model,
        out_field=options.out_field,
        group_by=options.group_by,
        mask_value=options.mask_value,
        label_type=options.label_type,
        similarity=options.similarity,
        prompts=options.prompts,
        presence_threshold=options.presence_threshold,
        skip_existing=options.skip_existing,
        overwrite=options.overwrite,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        device=options.device,
    )
    print(run.summary())
    return 0 if run.counts["segmented"] or not run.errors else 1


def _references(options: argparse.Namespace, dataset: Any) -> Any:
    if (options.reference is None) == (options.reference_tag is None):
        raise PersamError("give --reference ID or --reference-tag TAG")
    if options.label_id is not None:
        if options.reference is None or len(options.reference) != 1:
            raise PersamError("--label-id belongs to one --reference")
        return options.reference[0], options.label_id
    return options.reference or dataset.match_tags(options.reference_tag)


def _evaluate(options: argparse.Namespace) -> None:
    from .curation import evaluate

    results = evaluate(
        _samples(options),
        options.pred_field,
        gt_field=options.gt_field,
        eval_key=options.eval_key,
        group_by=options.group_by,
        include_references=options.include_references,
    )
    results.print_report()


def _samples(options: argparse.Namespace) -> Any:
    import fiftyone as fo

    if not fo.dataset_exists(options.dataset):
        listed = ", ".join(fo.list_datasets()[:10]) or "there is none"
        raise PersamError(f"there is no dataset {options.dataset!r}: choose one of {listed}")
    samples = fo.load_dataset(options.dataset)
    if options.view is not None:
        if not samples.has_saved_view(options.view):
            raise PersamError(f"dataset {options.dataset!r} has no saved view {options.view!r}")
        samples = samples.load_saved_view(options.view)
    return samples.match_tags(options.tag) if options.tag else samples


def _install_plugin(options: argparse.Namespace) -> None:
    from .curation.plugin import NAME, install_plugin

    target = install_plugin(options.plugins_dir, options.copy)
    print(f"{NAME} is in {target}. Restart the App to see it.")


def _doctor(options: argparse.Namespace) -> int:
    from .curation.doctor import check

    rows = check()
    width = max(len(row["check"]) for row in rows)
    for row in rows:
        print(f"{row['check']:<{width}}  {row['result']}")
        if row["advice"]:
            print(f"{'':<{width}}    {row['advice']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
