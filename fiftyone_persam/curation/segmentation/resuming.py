"""A run that was stopped goes on: the same method, references and weights, the photos left."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...engine.cache import weights_sha256
from ...engine.sequences import around_labels, with_earlier_frames
from ...errors import PersamError, RunConflictError
from ..database import selected
from ..frame_store import home
from ..progress import Progress
from ..runs import loading, losses, presence, stopping
from ..runs.record import RunRecord, RunState
from .arguments import choose_masks_dir
from .fitting import name_of_features
from .photos import choose_tasks
from .plan import Plan
from .recorded import RESUMED, recorded_references
from .resources import Resources
from .sequences import labelled_frames, masks_of_frames

if TYPE_CHECKING:
    from ...engine import Backend, EmbeddingCache


def resume_run(
    samples: Any,
    name: str,
    *,
    model: Any = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    device: Any = "auto",
    dtype: Any = None,
    compile: Any = "auto",
    cache: EmbeddingCache | str | os.PathLike[str] | bool | None = None,
    backend: Backend | str | None = None,
    progress: Progress = None,
) -> loading.Run:
    """Go on with a run that was stopped, killed or crashed: only its photos without a mask.

    Photos that failed are tried again. Method, references and all parameters are those of the run.

    Args:
        samples: the run's dataset, or a view into it.
        name: the run's name.
        model: the model, if the run was given one of your own; else the run's.
        batch_size: see `segment`.
        num_workers: see `segment`.
        device: see `segment`.
        dtype: the run's own if None.
        compile: see `segment`.
        cache: see `segment`.
        backend: see `segment`.
        progress: see `segment`.

    Raises:
        PersamError: there is no such run.
        BadReferenceError: a reference is gone, or its label has changed since.
        RunConflictError: the run is being written.
        CheckpointError: the model is not the one that the run began with.
    """
    run = loading.load_run(samples, name)
    dataset, record = home(run.dataset), run.record
    stopping.withdraw_stop(dataset, name)
    resources = Resources.checked(batch_size, num_workers, compile, cache, backend, progress)
    parameters = replace(
        record.parameters, presence_threshold=presence.presence_threshold(dataset, name)
    )
    ids = run.ids()
    photos = selected(dataset, ids)
    tasks = choose_tasks(photos, parameters)[0] if ids else []
    left = {task.id for task in tasks} - losses.kept_ids(dataset, name)
    if not left and record.state == RunState.DONE:
        return run

    references = recorded_references(dataset, record.references, RESUMED, unchanged=True)
    negatives: list[Any] = []
    if record.negatives:
        negatives = recorded_references(dataset, record.negatives, RESUMED, unchanged=True)
    shown = labelled_frames(tasks, references, parameters.objects)
    tasks = with_earlier_frames(around_labels(tasks, shown), left)
    folder, run_id = choose_masks_dir(dataset, name, True, None)
    sam = _same_model(record, model, device, dtype)
    plan = Plan(
        dataset=dataset,
        samples=photos,
        name=name,
        exists=True,
        method=record.method,
        sam=sam,
        parameters=parameters,
        references=references,
        tasks=tasks,
        ids=ids,
        overwrite=False,
        masks_dir=folder,
        run_id=run_id,
        negatives=negatives,
        labelled=masks_of_frames(shown, sam),
    )
    return resources.carry_out(plan)


def _same_model(record: RunRecord, model: Any, device: Any, dtype: Any) -> Any:
    from ...sam import list_models, load_sam

    if model is None:
        if record.model not in [info.name for info in list_models()]:
            raise PersamError(
                f"the run was made with a model of your own ({record.model}): "
                "give it to resume_run(model=...)"
            )
        model = record.model
    source = record.parameters.features
    if isinstance(model, str) or source is None:
        sam = load_sam(model, device, record.dtype if dtype is None else dtype, features=source)
    else:  # the user's own, which may have its features already
        sam = load_sam(model, device, record.dtype if dtype is None else dtype)
        if name_of_features(sam) is None:
            sam = load_sam(sam, features=source)
    same = sam.checkpoint_sha256 == record.checkpoint_sha256
    began = record.weights_sha256
    # Weights that came from no file are known as numbers of the run's own type only.
    if same and began is not None and str(sam.dtype).removeprefix("torch.") == record.dtype:
        same = weights_sha256(sam) == began
    if not same:
        raise RunConflictError(
            f"model {sam.name} has other weights than the run began with: start the run again "
            "with overwrite=True, or under another out_field"
        )
    return sam
