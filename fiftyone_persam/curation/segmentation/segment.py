"""The main job: one labelled photo in, masks of its object in all photos of a view out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...engine.sequences import around_labels, with_earlier_frames
from ...errors import BadReferenceError
from .. import checks
from ..frame_store import FrameStore, home
from ..labels.objects import object_names
from ..progress import Progress
from ..runs import loading, losses, presence, stopping
from ..runs.fields import DETECTIONS, SEGMENTATION, RunFields
from ..runs.record import RunState
from . import arguments, fitting, phrases
from .negatives import check_apart, resolve_negatives, takes_negatives
from .photos import check_photos, choose_tasks
from .plan import Parameters, Plan
from .rejected import marks_of_run, rejected_masks
from .resources import Resources
from .sequences import labelled_frames, masks_of_frames

if TYPE_CHECKING:
    from ...engine import Backend, EmbeddingCache


def segment(
    samples: Any,
    reference: Any,
    label_field: str = "ground_truth",
    method: str = "persam_f",
    model: Any = "sam_lite",
    out_field: str = "persam",
    *,
    group_by: str | None = None,
    mask_value: int | str | None = None,
    label_type: str | None = None,
    mask_storage: str = "auto",
    masks_dir: str | os.PathLike[str] | None = None,
    similarity: bool = False,
    prompts: bool = False,
    presence_threshold: float | None = None,
    compare_photos: bool = False,
    negatives: Any = None,
    negatives_field: str | None = None,
    negatives_mask_value: int | str | None = None,
    use_rejected: bool = True,
    sequence_field: str | None = None,
    order_field: str | None = None,
    skip_existing: bool = False,
    overwrite: bool = False,
    batch_size: int | None = None,
    num_workers: int | None = None,
    device: Any = "auto",
    dtype: Any = "auto",
    features: Any = None,
    compile: Any = "auto",
    cache: EmbeddingCache | str | os.PathLike[str] | bool | None = None,
    backend: Backend | str | None = None,
    progress: Progress = None,
    **options: Any,
) -> loading.Run:
    """Find the object of one labelled photo in all photos of a dataset or view, and mask it.

    Of a dataset or view of videos, every frame counts as a photo, and what is written goes into
    ``sample.frames[n]``; so it does for a view of frames (`to_frames`). The frames of a video come
    in their order, and so do photos whose ``sequence_field`` says of what they are frames: the
    method may follow its object from each frame to the next.

    Writes, for a run ``x``: the masks into ``x``, the predicted IoU into ``x_score``, how certainly
    the object is in the photo into ``x_presence``, and for photos that could not be segmented the
    reason into ``x_error``. One bad photo costs only itself. Nothing is written before everything
    that was given has been checked; from then on the run is stored on the dataset, and whatever
    stops it, `resume_run` goes on with it.

    Args:
        samples: dataset or view whose photos are segmented, or whose videos.
        reference: what the object is: a sample, a sample id, a (sample or id, label id) pair for
            one of several labels, a view of labelled samples, or a list of these. Of videos: a
            (sample or id, frame number) pair, or with the label's id as the third, where there are
            several labels; ``label_field`` is a field of frames then. Several for one
            object are used together. Several objects at once: ``{"mug": ..., "cat": ...}``, each
            with one of these; a photo may show any of them, and no two of their masks share a
            pixel. Or words: ``TextReference("the blue mug")`` alone, or in a
            (sample or id, `TextReference`) pair. Where the method takes none, a model that takes
            phrases finds the object in that photo, or in the one of up to 8 where it is clearest;
            the mask is written into ``x_reference`` as a label, and the run learns from that.
        label_field: the references' label field: Segmentation, Detection(s) with or without
            masks, Polyline(s) or Keypoint(s).
        method: "persam_f", which tunes two numbers to the reference, "persam", which tunes none,
            "evf_sam", which looks for a phrase in every photo, or another of `list_methods`.
        model: a name from `list_models`, or a ``segment_anything.modeling.Sam`` of your own. A
            method that needs a model that takes phrases takes one in place of "sam_lite".
        out_field: name of the run and of its main field.
        group_by: field that names each photo's object; the references then need one per value.
        mask_value: which value of the references' segmentation masks is the object ("#rrggbb" in
            colour masks); everything but background if None. Of several objects each has the
            class of its own name.
        label_type: "segmentation": one `fo.Segmentation`, 255 is the object, or 1, 2, ... are the
            objects, or what was found of one object if ``max_instances`` is above 1, as the field's
            ``mask_targets`` say; "detections": `fo.Detections` with instance masks, which the App
            can edit, and, of several of one object, the same number as ``index``, the score as
            ``confidence``, and its own ``presence``; "both": the former in ``x``
            and the latter in ``x_instances``. By default "detections" for videos and sequences,
            with an index by which the App shows tracks, and "segmentation" for photos.
        mask_storage: "file": PNG files; "inline": in the database; "auto": files, but inline up to
            256 x 256 pixels.
        masks_dir: folder of the files; by default one per run in FiftyOne's dataset folder.
        similarity: write similarity maps into ``x_similarity``.
        prompts: write the prompt points into ``x_prompts``.
        presence_threshold: presence below which the object counts as absent: the photo gets an
            empty mask, and what was found is kept in ``x_withheld``. 0 turns that off; if None,
            what the run's reviewer has chosen, or else the method's own. It counts for all photos
            of the run, those too that keep their masks.
        compare_photos: when all photos are through, compare what they found with one another: a
            photo whose match is far behind the best ones of the run loses presence, and its mask
            if that is below the threshold then. What it had by itself is kept in
            ``x_presence_alone``. For runs of one object, or one per photo (``group_by``).
        negatives: what the object is not, such as its twin: as ``reference``, with a mask or a box.
            Places that look more like these lose. Of several objects ``{"mug": ...}`` says what is
            no mug; without names it is none of them.
        negatives_field: the label field of the negatives; ``label_field`` if None.
        negatives_mask_value: which value or class of the negatives' segmentation masks, where they
            have several; ``mask_value`` is of the references alone.
        use_rejected: take masks as negatives, too, that reviews have rejected of this run, or of
            another one of the dataset that has learnt from the same label, be it deleted by now;
            up to 16, copied into ``x_rejected``. Those that look like a badly cut mask of the
            object are left out, and those that a review has accepted since.
        sequence_field: field that names the sequence whose frame a photo is, such as a video's
            name; for datasets of photos.
        order_field: field by which the frames of a sequence are sorted, such as their numbers; by
            the files' names if None.
        skip_existing: go on with a run of this name: only photos without a mask.
        overwrite: do these photos of a run of this name again; its other photos stay.
        batch_size: photos encoded at once; by device if None.
        num_workers: threads that load photos, and as many that write; by machine if None.
        device: "auto", "cuda", "mps", "cpu", ...
        dtype: "auto" (float16 on CUDA, float32 elsewhere and in ``mode="reference"``), "float32",
            "bfloat16" or "float16".
        features: what the object is found by (paper, section 3.2): the model's own embedding if
            None, "timm/<model>" for that timm model's features, or a `FeatureSource`.
        compile: compile the image encoder (``torch.compile``), which takes seconds to minutes:
            True, False, or "auto": on CUDA, for jobs long enough to earn that with a model that
            the package's own kernels do not serve. The run's record says which: ``compiled``.
        cache: where embeddings are looked up and kept, so that another reference or method over
            the same photos costs only decoding: True for a folder beside FiftyOne's model zoo, a
            folder of your own, or a `DiskCache` with another limit than 10 GiB.
        backend: where the work is done. "local": in this process, the default; "devices": on all
            CUDA devices of this machine, a process for each; "ray": on a Ray cluster; or a
            `DevicesBackend` or `RayBackend` with settings of your own.
        progress: True or False for FiftyOne's progress bar, None for its own setting, or a function
            that is called with photos done and their total; what that raises stops the run.
        **options: of the method, such as ``mode="reference"``; see `list_methods`.

    Returns:
        The run, with ``counts``, ``timings``, ``errors`` and a ``summary()``.

    Raises:
        PersamError: something that was given is wrong; the message says what.
        BadReferenceError: the reference has no usable label, an object has no reference, or a
            phrase finds nothing.
        RunConflictError: the field belongs to another run, or the run is being written.
        CheckpointError: the model's checkpoint is not there.
    """
    photos = check_photos(samples)
    options = {name: checks.as_plain(value) for name, value in options.items()}
    dataset = home(photos)
    arguments.check_options(method, options)
    model = phrases.model_of(method, model)
    if group_by is not None:
        _check_groups(reference)
    checks.check_switches(
        similarity=similarity,
        prompts=prompts,
        compare_photos=compare_photos,
        skip_existing=skip_existing,
        overwrite=overwrite,
        use_rejected=use_rejected,
    )
    if label_type is None:
        in_order = sequence_field is not None or isinstance(dataset, FrameStore)
        label_type = DETECTIONS if in_order else SEGMENTATION
    parameters = Parameters(
        label_field=label_field,
        group_by=group_by,
        mask_value=checks.as_plain(mask_value),
        label_type=label_type,
        mask_storage=mask_storage,
        similarity=checks.as_plain(similarity),
        prompts=checks.as_plain(prompts),
        compare_photos=checks.as_plain(compare_photos),
        presence_threshold=checks.as_plain(presence_threshold),
        options=options,
        sequence_field=sequence_field,
        order_field=order_field,
        objects=object_names(reference) if isinstance(reference, Mapping) else [],
        use_rejected=checks.as_plain(use_rejected),
    )
    arguments.check_parameters(parameters)
    resources = Resources.checked(batch_size, num_workers, compile, cache, backend, progress)
    fields = RunFields(
        *(out_field, label_type, parameters.similarity, parameters.prompts),
        objects=tuple(parameters.objects),
        compare_photos=parameters.compare_photos,
    )
    exists = arguments.check_run(dataset, fields, skip_existing, overwrite)
    stopping.withdraw_stop(dataset, out_field)
    if exists and presence_threshold is None:  # what the reviewer has chosen stays
        chosen = presence.chosen_threshold(dataset, out_field)
        parameters = replace(parameters, presence_threshold=chosen)
    tasks, new_frames, parameters = choose_tasks(photos, parameters)
    folder, run_id = arguments.choose_masks_dir(dataset, out_field, exists, masks_dir)
    reference, marks = phrases.find_phrases(
        dataset, reference, method, tasks, model, out_field, device, dtype, resources.cache
    )
    references = fitting.choose_references(dataset, reference, parameters, tasks)
    arguments.check_kinds(method, references)
    others = resolve_negatives(
        dataset,
        negatives,
        label_field if negatives_field is None else negatives_field,
        method,
        options,
        parameters.objects,
        checks.as_plain(negatives_mask_value),
    )
    check_apart(references, others)
    ids = [task.id for task in tasks]
    shown = labelled_frames(tasks, references, parameters.objects)
    tasks = around_labels(tasks, shown)
    if exists and skip_existing:
        tasks = with_earlier_frames(tasks, set(ids) - losses.kept_ids(dataset, out_field))
        if not tasks and (ended := loading.load(dataset, out_field)).state == RunState.DONE:
            return ended

    from ...personalize import dtype_for
    from ...sam import load_sam

    sam = load_sam(model, device, dtype_for(dtype, options), features=features)
    parameters = replace(parameters, features=fitting.name_of_features(sam))
    if use_rejected and takes_negatives(method, options):
        rejected, labels = rejected_masks(dataset, references, out_field, method, options)
        others, marks = [*others, *rejected], [*marks, *labels]
    elif exists and overwrite:  # they go now, and a later run may want to know
        marks = [*marks, *marks_of_run(dataset, out_field, ids)]
    plan = Plan(
        dataset=dataset,
        samples=photos,
        name=out_field,
        exists=exists,
        method=method,
        sam=sam,
        parameters=parameters,
        references=references,
        tasks=tasks,
        ids=ids,
        overwrite=overwrite and exists,
        masks_dir=folder,
        run_id=run_id,
        marks=marks,
        negatives=others,
        new_frames=new_frames,
        labelled=masks_of_frames(shown, sam),
    )
    return resources.carry_out(plan)


def _check_groups(reference: Any) -> None:
    """Raise BadReferenceError for one that leaves nothing to ``group_by``."""
    if phrases.has_phrase(reference):
        raise BadReferenceError(
            "a phrase names one object: leave group_by out, or give a labelled photo per object"
        )
    if isinstance(reference, Mapping):
        raise BadReferenceError(
            "a reference that names objects looks for all of them in every photo: leave group_by "
            "out"
        )
