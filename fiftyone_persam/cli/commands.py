"""What the command line's commands do: one call of the library each, and its result as text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ..errors import PersamError
from ..options import check_names
from .common import Options, dataset_of, objects_of, piece_of, samples_of, value_of, verdict
from .curating import negatives_of


def demo(options: Options) -> None:
    """Segment a small album and score it."""
    from .demo import run_demo

    made = run_demo(options.out, options.perseg_dir, options.model, options.device, say=print)
    print(f"\n{made.table}\n\nPicture: {made.picture}")
    print(f"Dataset: {made.dataset}. Open it with: fiftyone app launch {made.dataset}")
    print("         (after `make demo`: make app)")


def models_list(options: Options) -> None:
    """Which models there are, and which of them are on this machine."""
    from .. import sam

    models = sam.list_models()
    width = max(len(model.name) for model in models)
    for model in models:
        state = "here" if model.available else "not here"
        size = f"{model.bytes / 1e6:,.0f} MB"
        print(
            f"{model.name:<{width}}{size:>9}  {model.image_size:>5} px  {state:<9} {model.source} "
            f"({model.license or 'licence unknown'})"
        )


def models_download(options: Options) -> None:
    """Fetch checkpoints and check them."""
    from .. import sam

    for name in options.names:
        sam.load_sam(name, device="cpu", dtype="float32", download=True)
        print(f"{name}: ok")


def models_verify(options: Options) -> int:
    """Check the checkpoints that are here."""
    from .. import sam

    failed = 0
    here = [model.name for model in sam.list_models() if model.path and model.path.exists()]
    for name in options.names or here:
        try:
            sam.load_sam(name, device="cpu", dtype="float32", download=False)
            print(f"{name}: ok")
        except PersamError as error:
            failed += 1
            print(f"{name}: {error}", file=sys.stderr)
    return min(failed, 1)


def methods_list(options: Options) -> None:
    """Which methods there are, what they need, and what they can be told."""
    from ..personalize import list_methods, method_info

    for info in [method_info(name) for name in options.names] or list_methods():
        print(f"{info.name}: {info.title}, {info.help}; from a {' or '.join(info.references)}")
        for option in info.options:
            print(f"    {option.name:<20} {option.help} ({option.describe()})")


def segment(options: Options) -> int:
    """Segment the photos of a dataset."""
    from .. import curation
    from ..curation.fiftyone_api import root_dataset

    samples = samples_of(options)
    run = curation.segment(
        samples,
        _references(options, root_dataset(samples)),
        label_field=options.label_field,
        method=options.method,
        model=options.model,
        out_field=options.out_field,
        group_by=options.group_by,
        mask_value=options.mask_value,
        label_type=options.label_type,
        mask_storage=options.mask_storage,
        masks_dir=options.masks_dir,
        similarity=options.similarity,
        prompts=options.prompts,
        negatives=negatives_of(options),
        negatives_field=options.negatives_field,
        negatives_mask_value=value_of(options.negatives_mask_value),
        use_rejected=not options.ignore_rejected,
        compare_photos=options.compare_photos,
        sequence_field=options.sequence_field,
        order_field=options.order_field,
        dtype=options.dtype,
        compile={"on": True, "off": False}.get(options.compile, options.compile),
        features=options.features,
        skip_existing=options.skip_existing,
        overwrite=options.overwrite,
        **_engine_options(options),
        **_method_options(options),
    )
    print(run.summary())
    return verdict(run)


def evaluate(options: Options) -> None:
    """Compare masks with ground truth."""
    from .. import curation

    results = curation.evaluate(
        samples_of(options),
        options.pred_field,
        gt_field=options.gt_field,
        eval_key=options.eval_key,
        group_by=options.group_by,
        mask_value=options.mask_value,
        include_references=options.include_references,
        on_error=options.on_error,
        method=options.method,
        sequence_field=options.sequence_field,
        order_field=options.order_field,
    )
    results.print_report()


def runs_list(options: Options) -> None:
    """The runs of a dataset, oldest first."""
    from .. import curation

    found = curation.list_runs(dataset_of(options))
    if not found:
        print(f"dataset {options.dataset!r} has no runs")
    width = max((len(run.name) for run in found), default=0)
    for run in found:
        method = f"{run.record.method} with {run.record.model}"
        counts = str(run).partition(": ")[2]
        print(
            f"{run.name:<{width}}  {run.started:%Y-%m-%d %H:%M}  {run.state:<11}  "
            f"{method:<24}  {counts}"
        )


def runs_show(options: Options) -> None:
    """Counts, timings and failures of a run."""
    from .. import curation

    print(curation.load_run(dataset_of(options), options.run).summary())


def runs_resume(options: Options) -> int:
    """Go on with a run that was stopped."""
    from .. import curation

    run = curation.resume_run(dataset_of(options), options.run, **_engine_options(options))
    print(run.summary())
    return verdict(run)


def runs_stop(options: Options) -> int:
    """Stop a run that goes on in another process."""
    from .. import curation

    if curation.stop_run(dataset_of(options), options.run):
        print(f"{options.run} stops at its next photo")
        return 0
    print(f"{options.run} is not being written: there is nothing to stop", file=sys.stderr)
    return 1


def runs_rename(options: Options) -> None:
    """Rename a run."""
    from .. import curation

    print(curation.rename_run(dataset_of(options), options.run, options.new_name))


def runs_delete(options: Options) -> None:
    """Delete a run with all that it wrote."""
    from .. import curation

    curation.delete_run(dataset_of(options), options.run)
    print(f"deleted: {options.run}")


def runs_adopt(options: Options) -> None:
    """Make fields whose run's record is gone a run again."""
    from ..curation.adoption import adopt_run

    print(adopt_run(dataset_of(options), options.run).summary())


def import_album(options: Options) -> None:
    """Make a dataset of a folder in PerSeg's layout."""
    from ..curation.handover.importing import import_folder

    name = options.name or Path(options.folder).expanduser().absolute().name
    given = {
        "objects": options.object,
        "reference": options.reference,
        "max_samples": options.max_samples,
        "on_error": "skip" if options.skip_faulty else None,
    }
    dataset = import_folder(
        options.folder,
        name,
        options.layout,
        **{option: value for option, value in given.items() if value is not None},
    )
    objects = dataset.distinct("object") if dataset.has_field("object") else []
    named = f" of {len(objects)} objects ({', '.join(objects[:10])})" if objects else ""
    print(f"{name}: {len(dataset)} photos{named}")
    if skipped := dataset.info.get("skipped"):
        print(f"left out: {len(skipped)}, see the dataset's info")


def export_album(options: Options) -> None:
    """Write photos and a run's masks to a folder."""
    from .. import curation

    count = curation.export_masks(
        samples_of(options),
        options.run,
        options.folder,
        format=options.format,
        states=options.state or ("accepted",),
        group_by=options.group_by,
        overwrite=options.overwrite,
    )
    print(f"{count} photos and masks are in {options.folder}")


def export_dreambooth(options: Options) -> None:
    """Write photos, masks and captions for a diffusion model's trainer."""
    from .. import curation

    count = curation.export_dreambooth(
        samples_of(options),
        options.run,
        options.folder,
        layout=options.layout,
        crop=options.crop,
        padding=options.padding,
        resolution=options.resolution,
        background=options.background,
        dilate=options.dilate,
        feather=options.feather,
        caption=options.caption,
        only_accepted=not options.not_only_accepted,
        min_score=options.min_score,
        label=options.label,
        overwrite=options.overwrite,
    )
    print(f"{count} photos with masks and captions are in {options.folder}")
    for reason in count.left_out:
        print(f"left out: {reason}")


def install_plugin(options: Options) -> None:
    """Put the plugin into FiftyOne's folder."""
    from . import plugin

    target = plugin.install_plugin(options.plugins_dir, options.copy)
    print(f"{plugin.NAME} is in {target}. Restart the App to see it.")


def doctor(options: Options) -> None:
    """Check device, checkpoints, database and versions."""
    from . import doctor as checks

    rows = checks.doctor()
    width = max(len(row["check"]) for row in rows)
    for row in rows:
        print(f"{row['check']:<{width}}  {row['result']}")
        if row["advice"]:
            print(f"{'':<{width}}    {row['advice']}")


# ----------------------------------------------------------------------------------------------


def _references(options: Options, dataset: Any) -> Any:
    if options.object is not None:
        others = (options.reference, options.reference_tag, options.phrase, options.label_id)
        if any(one is not None for one in others):
            raise PersamError(
                "--object names each object with its reference: leave --reference, "
                "--reference-tag, --label-id and --phrase out"
            )
        return objects_of(options.object)
    if options.phrase is None:
        return _shown(options, dataset)
    from ..personalize import TextReference, method_info

    words = TextReference(options.phrase)
    if options.reference is None and options.reference_tag is None:
        return words
    if method_info(options.method).needs_text:
        shown = _shown(options, dataset)
        several = shown if isinstance(shown, list) else None
        if several is None:
            several = [shown] if isinstance(shown, tuple) else list(shown)
        return [*several, words]
    if options.reference is None or len(options.reference) != 1 or options.label_id is not None:
        raise PersamError(
            f"--phrase finds the object in one photo: give one --reference without a label, or "
            f"none, or --method {_with_words()}"
        )
    return options.reference[0], words


def _with_words() -> str:
    from ..personalize import list_methods

    return " or ".join(info.name for info in list_methods() if info.needs_text)


def _shown(options: Options, dataset: Any) -> Any:
    if (options.reference is None) == (options.reference_tag is None):
        given = "no reference" if options.reference is None else "two kinds of reference"
        raise PersamError(f"{given}: give --reference ID or --reference-tag TAG, or --phrase WORDS")
    if options.label_id is not None:
        if options.reference is None or len(options.reference) != 1:
            raise PersamError("--label-id belongs to one photo: give one --reference")
        return options.reference[0], options.label_id
    if options.reference is None:
        return dataset.match_tags(options.reference_tag)
    return [piece_of(one) for one in options.reference]


def _engine_options(options: Options) -> dict[str, Any]:
    names = ("batch_size", "num_workers", "device", "cache", "backend")
    return {name: getattr(options, name) for name in names}


def _method_options(options: Options) -> dict[str, Any]:
    """The values that --option and --mode give to the method's options."""
    from ..personalize import method_info

    info = method_info(options.method)
    known = {option.name: option for option in info.options}
    given = [text.partition("=") for text in options.option]
    if options.mode is not None:
        given.append(("mode", "=", options.mode))
    found: dict[str, Any] = {}
    for name, equals, text in given:
        if not equals:
            raise PersamError(f"--option {name} has no value: give --option {name}=VALUE")
        if name in found:
            raise PersamError(f"option {name} is given twice: give it once")
        # Here, since `segment` has arguments of its own beside the method's options.
        check_names(info.name, info.options, [name])
        found[name] = known[name].parse(text)
    if options.presence_threshold is not None:  # an option of methods, too
        if "presence_threshold" in found:
            raise PersamError("option presence_threshold is given twice: give it once")
        found["presence_threshold"] = options.presence_threshold
    return found
