"""Commands around a run: which photo to label, another try, review, comparison, hand-over."""

from __future__ import annotations

from typing import Any

from ..personalize.registries import CRITERIA, SEPARATION
from .arguments import RUN, Parser, add_cache, add_command, add_device, add_model, add_view
from .common import (
    Options,
    dataset_of,
    objects_of,
    piece_of,
    samples_of,
    value_of,
    verdict,
)

STATES = ("todo", "accepted", "rejected", "absent")


# What the commands take -------------------------------------------------------------------------


def add_suggest(subparsers: Any) -> None:
    """`suggest`."""
    parser = add_command(subparsers, "suggest", suggest, "which photo to label as the reference")
    parser.add_argument("--label-field", metavar="FIELD", help="compare what is labelled there")
    parser.add_argument(
        "--by",
        default=SEPARATION,
        choices=tuple(CRITERIA),
        help="; ".join(f"{name}: {text}" for name, text in CRITERIA.items()),
    )
    parser.add_argument("--limit", type=int, default=10, help="photos to list")
    add_model(parser)
    add_cache(parser)
    add_view(parser)


def add_again(subparsers: Any) -> None:
    """`again`."""
    text = "segment again what is not accepted in a run, with one more reference or with its own"
    parser = add_command(subparsers, "again", again, text, run=RUN)
    parser.add_argument(
        "--reference",
        metavar="ID",
        help="id of a sample, or ID:LABEL; if left out, what was rejected teaches the run alone",
    )
    parser.add_argument(
        "--object",
        action="append",
        metavar="NAME=ID",
        help="of a run of several objects: one of them, and its reference; repeatable",
    )
    parser.add_argument("--label-field", default="ground_truth", help="the reference's label")
    parser.add_argument("--mask-value", help="which value or class of its mask")
    parser.add_argument(
        "--only-new", action="store_true", help="learn from the new reference alone"
    )
    add_negatives(parser)
    add_cache(parser)
    add_view(parser)


def add_negatives(parser: Parser) -> None:
    """What an object is not."""
    parser.add_argument(
        "--negative",
        action="append",
        metavar="ID",
        help="id of a sample, or ID:LABEL, that shows what the object is not; of several objects "
        "NAME=ID says which one; repeatable",
    )
    parser.add_argument("--negatives-field", metavar="FIELD", help="the negatives' labels")
    parser.add_argument(
        "--negatives-mask-value", metavar="VALUE", help="which value or class of their masks"
    )
    parser.add_argument(
        "--ignore-rejected",
        action="store_true",
        help="learn nothing from masks that reviews have rejected",
    )


def add_review(subparsers: Any) -> None:
    """`review` and what it is made of."""
    review = subparsers.add_parser("review", help="accept, reject and correct a run's masks")
    actions = review.add_subparsers(required=True, metavar="ACTION")
    for name, command, text in (
        ("counts", review_counts, "how many photos are in each state"),
        ("queue", review_queue, "ids of the photos to look at, most doubtful first"),
        ("accept", review_accept, "mark masks as right"),
        ("reject", review_reject, "mark masks as wrong: the next run learns from them"),
        ("reset", review_reset, "take decisions back"),
        ("edit", review_edit, "offer masks to the App's own annotation tools"),
    ):
        action = add_command(actions, name, command, text, run=RUN)
        if name in ("accept", "reject", "reset", "edit"):
            action.add_argument(
                "--sample", action="append", metavar="ID", help="only this one; repeatable"
            )
        if name == "queue":
            action.add_argument("--limit", type=int, help="at most so many")
        add_view(action)
    add_command(actions, "undo", review_undo, "take the last step back", run=RUN)
    threshold = add_command(
        actions, "threshold", review_threshold, "presence below which it is absent", run=RUN
    )
    threshold.add_argument("value", type=float, help="0 to 1; 0 for never")


def add_compare(subparsers: Any) -> None:
    """`compare`."""
    parser = add_command(subparsers, "compare", compare, "where two runs disagree", run=RUN)
    parser.add_argument("other", help="the other run")
    parser.add_argument("--gt-field", help="ground truth that says which one is better")
    parser.add_argument("--out-field", help="write the agreement there, to sort by it in the App")
    add_view(parser)


def add_promote(subparsers: Any) -> None:
    """`promote`."""
    text = "copy accepted masks into a label field of their own"
    parser = add_command(subparsers, "promote", promote, text, run=RUN)
    parser.add_argument("label_field", help="made if it is missing")
    parser.add_argument(
        "--state",
        action="append",
        choices=STATES,
        help="photos in this state of review; repeatable; accepted if left out",
    )
    parser.add_argument("--kind", choices=("segmentation", "detections"))
    parser.add_argument("--label", default="object", help="what each is called")
    parser.add_argument("--overwrite", action="store_true", help="replace labels that are there")
    add_view(parser)


def add_everything(subparsers: Any) -> None:
    """`everything`."""
    text = "mask whatever is in the photos, without a label"
    parser = add_command(subparsers, "everything", everything, text)
    parser.add_argument("--out-field", default="everything", help="the field; made if missing")
    parser.add_argument("--max-proposals", type=int, help="how many in a photo")
    parser.add_argument("--proposer", help="detector or grid")
    parser.add_argument("--label", default="thing", help="what each is called")
    add_model(parser)
    add_device(parser)
    parser.add_argument("--skip-existing", action="store_true", help="go on with this field")
    parser.add_argument("--overwrite", action="store_true", help="do these photos again")
    add_view(parser)


# What they do -----------------------------------------------------------------------------------


def suggest(options: Options) -> None:
    """Rank photos by how well each would serve the others as a reference."""
    from .. import curation

    found = curation.suggest_reference(
        samples_of(options),
        label_field=options.label_field,
        model=options.model,
        by=options.by,
        cache=options.cache,
    )
    found.print_report(options.limit)


def again(options: Options) -> int:
    """Segment again what is not accepted."""
    from .. import curation
    from ..errors import PersamError

    if options.reference is not None and options.object is not None:
        raise PersamError("two kinds of reference: give --reference ID, or --object NAME=ID")
    reference: Any = None
    if options.object is not None:
        reference = objects_of(options.object)
    elif options.reference is not None:
        reference = piece_of(options.reference)
    run = curation.segment_again(
        samples_of(options),
        options.run,
        reference,
        label_field=options.label_field,
        mask_value=value_of(options.mask_value),
        keep_references=not options.only_new,
        negatives=negatives_of(options),
        negatives_field=options.negatives_field,
        negatives_mask_value=value_of(options.negatives_mask_value),
        use_rejected=not options.ignore_rejected,
        cache=options.cache,
    )
    print(run.summary())
    return verdict(run)


def negatives_of(options: Options) -> Any:
    """What `add_negatives` has taken, as an argument of `segment`."""
    from ..errors import PersamError

    if options.negative is None:
        return None
    named = [one for one in options.negative if "=" in one]
    if named and len(named) < len(options.negative):
        raise PersamError("--negative names an object in all cases or in none: NAME=ID, or ID")
    if named:
        return objects_of(named, "--negative")
    return [piece_of(one) for one in options.negative]


def review_counts(options: Options) -> None:
    """How many photos are in each state."""
    from .. import curation

    print(curation.review_counts(samples_of(options), options.run))


def review_queue(options: Options) -> None:
    """The photos to look at."""
    from .. import curation

    queue = curation.review_queue(samples_of(options), options.run, limit=options.limit)
    for sample_id, path in zip(*queue.values(["id", "filepath"]), strict=True):
        print(f"{sample_id}  {path}")


def review_accept(options: Options) -> None:
    """Mark masks as right."""
    _decide(options, "accepted")


def review_reject(options: Options) -> None:
    """Mark masks as wrong."""
    _decide(options, "rejected")


def review_reset(options: Options) -> None:
    """Take decisions back."""
    _decide(options, None)


def review_edit(options: Options) -> None:
    """Offer masks to the App's annotation tools."""
    from .. import curation

    field = curation.make_editable(samples_of(options), options.run, options.sample)
    print(f"Open a photo in the App and choose Annotate: the masks are in {field!r}")


def review_undo(options: Options) -> None:
    """Take the last step back."""
    from .. import curation

    changed = curation.undo_review(dataset_of(options), options.run)
    print(f"photos that are as before: {changed}")


def review_threshold(options: Options) -> None:
    """Set the presence threshold."""
    from .. import curation

    dataset = dataset_of(options)
    changed = curation.set_presence_threshold(dataset, options.run, options.value)
    print(f"photos changed: {changed}; {curation.review_counts(dataset, options.run)}")


def compare(options: Options) -> None:
    """Compare two runs."""
    from .. import curation

    found = curation.compare_runs(
        samples_of(options), options.run, options.other, options.gt_field, options.out_field
    )
    for what, value in found.summary().items():
        print(f"{what:<20} {value}")


def promote(options: Options) -> None:
    """Copy masks into a label field."""
    from .. import curation

    made = curation.promote(
        samples_of(options),
        options.run,
        options.label_field,
        states=options.state or ("accepted",),
        kind=options.kind,
        label=options.label,
        overwrite=options.overwrite,
    )
    print(made)


def everything(options: Options) -> None:
    """Mask everything."""
    from .. import curation

    given = {"max_proposals": options.max_proposals, "proposer": options.proposer}
    print(
        curation.segment_everything(
            samples_of(options),
            options.model,
            options.out_field,
            label=options.label,
            skip_existing=options.skip_existing,
            overwrite=options.overwrite,
            device=options.device,
            **{name: value for name, value in given.items() if value is not None},
        )
    )


def _decide(options: Options, decision: str | None) -> None:
    from .. import curation

    changed = curation.set_review(samples_of(options), options.run, decision, options.sample)
    counts = curation.review_counts(dataset_of(options), options.run)
    print(f"decisions changed: {changed}; {counts}")
