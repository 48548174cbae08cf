"""PerSAM as a FiftyOne model: fitted once, then ``dataset.apply_model`` like any model of the zoo.

`segment` does more: it keeps scores and errors in fields of their own, writes masks behind, and can
be resumed. This is for code that takes FiftyOne models.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import fiftyone as fo
import fiftyone.core.models as fom
import fiftyone.utils.torch as fout
import numpy as np

from ...engine.writing import MASK_VALUE
from ...errors import BadReferenceError, PersamError
from ...personalize import Method, Prediction, Reference, dtype_for
from ...sam import Contrast, Photo, load_photo, load_sam, resize_photo
from ...sam.boxes import tight_box
from ...sam.registry import MODELS
from ..checks import check_choice
from ..labels.references import SampleReference
from ..labels.resolving import resolve_references
from ..runs.fields import DETECTIONS, SEGMENTATION
from ..runs.record import Parameters
from ..segmentation.arguments import check_options, check_parameters
from ..segmentation.fitting import fit

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedPhoto:
    """A photo at the model's input size, or the reason why there is none.

    Attributes:
        id: the sample.
        pixels: (h, w, 3) uint8 with a long side of the model's input.
        size: height and width of the photo itself.
        error: why the photo could not be read.
    """

    id: str
    pixels: Photo | None = None
    size: tuple[int, int] = (0, 0)
    error: str | None = None


class PhotoLoader(fout.GetItem):  # type: ignore[misc]
    """Reads photos in the workers of FiftyOne's data loader; a bad one costs only itself."""

    def __init__(
        self,
        image_size: int,
        field_mapping: dict[str, str] | None = None,
        contrast: Contrast | None = None,
    ) -> None:
        self.image_size = image_size
        self.contrast = contrast
        super().__init__(field_mapping=field_mapping)

    @property
    def required_keys(self) -> list[str]:
        """What FiftyOne hands over of each sample."""
        return ["id", "filepath"]

    def __call__(self, values: dict[str, str]) -> LoadedPhoto:  # noqa: D102
        try:
            photo = load_photo(values["filepath"], self.contrast)
        except PersamError as error:
            return LoadedPhoto(values["id"], error=str(error))
        size = (photo.shape[0], photo.shape[1])
        return LoadedPhoto(values["id"], resize_photo(photo, self.image_size), size)


@dataclass
class PersamModelConfig:
    """What `apply_model` may look up and set."""

    label_type: str = SEGMENTATION
    name: str = "object"


class PersamModel(fom.SupportsGetItem, fom.TorchModelMixin, fom.Model):  # type: ignore[misc]
    """A fitted `Method` as a :class:`fiftyone.core.models.Model`.

    Photos get a :class:`fiftyone.core.labels.Segmentation` with the object at 255 and the
    attributes ``score``, ``presence`` and ``stage``, or :class:`fiftyone.core.labels.Detections`
    with instance masks, the score as confidence, and ``presence``. Photos that cannot be read get
    no label; `errors` tells why.

    Args:
        predictor: fitted.
        label_type: "segmentation" or "detections".
        name: what detections are called.
        references: where the fit came from, if from samples. `apply_model` looks at their labels
            again and fits anew where one was changed since, because FiftyOne's zoo hands out the
            model it loaded before when it is asked for the same sample.

    Attributes:
        errors: reason by sample id, for the photos of the latest `apply_model`.

    Example::

        model = PersamModel(fp.PerSAM(sam).fit(fp.Reference(image, mask=mask)))
        dataset.apply_model(model, label_field="mine")
    """

    media_type = "image"
    ragged_batches = False
    has_collate_fn = True
    transforms = None
    preprocess = True

    def __init__(
        self,
        predictor: Method,
        label_type: str = SEGMENTATION,
        name: str = "object",
        references: Sequence[SampleReference] = (),
    ) -> None:
        check_choice("label_type", label_type, (SEGMENTATION, DETECTIONS))
        self.predictor = predictor
        self.config = PersamModelConfig(label_type, name)
        self.references = list(references)
        self.errors: dict[str, str] = {}

    def __enter__(self) -> PersamModel:
        self.errors = {}
        self._refit()
        return self

    def build_get_item(self, field_mapping: dict[str, str] | None = None) -> PhotoLoader:
        """How FiftyOne's data loader reads photos for this model."""
        return PhotoLoader(self.predictor.sam.image_size, field_mapping, self.predictor.contrast)

    @staticmethod
    def collate_fn(batch: list[LoadedPhoto]) -> list[LoadedPhoto]:
        """Photos differ in size, so a batch is a list."""
        return batch

    def predict(self, arg: Any) -> fo.Label:
        """Segment one photo: (H, W, 3) uint8 RGB, a path, or what `PhotoLoader` returns."""
        return self.predict_all([arg])[0]

    def predict_all(self, args: Sequence[Any]) -> list[fo.Label | None]:
        """Segment photos in one batch; None for those that could not be read."""
        sam = self.predictor.sam
        loaded = [
            arg if isinstance(arg, LoadedPhoto) else _loaded(arg, self.predictor) for arg in args
        ]
        for photo in loaded:
            if photo.error is not None:
                self.errors[photo.id] = photo.error
                logger.warning("%s", photo.error)
        good = [(photo.pixels, photo.size) for photo in loaded if photo.pixels is not None]
        embeddings = sam.encode_resized([pixels for pixels, _ in good], [size for _, size in good])
        predictions = iter(self.predictor.predict_embeddings(embeddings))
        return [
            None if photo.pixels is None else self._label(next(predictions)) for photo in loaded
        ]

    def _label(self, prediction: Prediction) -> fo.Label:
        presence = float(prediction.presence)
        if self.config.label_type == SEGMENTATION:
            return fo.Segmentation(
                mask=prediction.mask.astype(np.uint8) * np.uint8(MASK_VALUE),
                score=float(prediction.score),
                presence=presence,
                stage=prediction.stage,
            )
        detections = []
        for found in prediction.instances or (prediction,):
            box = tight_box(found.mask)
            if box is None:
                continue
            x0, y0, x1, y1 = box
            height, width = found.mask.shape
            detections.append(
                fo.Detection(
                    label=self.config.name,
                    bounding_box=[x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height],
                    mask=np.ascontiguousarray(found.mask[y0:y1, x0:x1]),
                    confidence=float(found.score),
                    presence=presence,
                )
            )
        return fo.Detections(detections=detections)

    def _refit(self) -> None:
        if not self.references:
            return
        try:
            now = [_look_again(reference) for reference in self.references]
        except PersamError:  # the label or sample is gone: what was learned from it stays
            return
        before = [reference.prompt.fingerprint() for reference in self.references]
        if [reference.prompt.fingerprint() for reference in now] != before:
            first = now[0].load()
            rest = [reference.load(first.contrast) for reference in now[1:]]
            self.predictor.fit([first, *rest])
            self.references = now


def load_zoo_model(
    model: str,
    reference: Any = None,
    label_field: str = "ground_truth",
    *,
    dataset: Any = None,
    mask_value: int | str | None = None,
    method: str = "persam_f",
    label_type: str = SEGMENTATION,
    presence_threshold: float | None = None,
    device: str = "auto",
    dtype: str = "auto",
    **options: Any,
) -> PersamModel:
    """Load a promptable model and fit it to a reference: what the zoo source calls.

    Args:
        model: a name from `list_models`.
        reference: a sample, a sample id, a (sample, label id) pair, or a list of these that show
            one object.
        label_field: where the reference's label is.
        dataset: the dataset, or its name, that ids are looked up in.
        mask_value: which value of a segmentation mask is the object; None for all above 0.
        method: a name of `list_methods`.
        label_type: "segmentation" or "detections".
        presence_threshold: presence below which a photo counts as without the object; None for the
            method's own, 0 for never.
        device: see `load_sam`.
        dtype: see `load_sam`.
        **options: of the method.

    Raises:
        BadReferenceError: no reference, or one without a usable label.
        PersamError: another argument that does not make sense.
        CheckpointError: the model's file is missing or damaged.
    """
    if reference is None:
        raise BadReferenceError(
            "no reference was given: pass reference=<a labelled sample> and label_field=<its label>"
        )
    if isinstance(reference, Reference):
        raise BadReferenceError(
            "FiftyOne's zoo takes arrays of one shape for the same and would hand out a model of "
            "another reference: pass a sample, or PersamModel(PerSAM(sam).fit(reference))"
        )
    check_choice("label_type", label_type, (SEGMENTATION, DETECTIONS))
    check_options(method, options)
    parameters = Parameters(
        label_field=label_field,
        mask_value=mask_value,
        label_type=label_type,
        presence_threshold=presence_threshold,
        options=options,
    )
    check_parameters(parameters)
    found = resolve_references(
        _dataset(dataset, reference), reference, label_field, mask_value=mask_value
    )
    sam = load_sam(model, device, dtype_for(dtype, options))
    predictors, _ = fit(method, sam, parameters, found)
    name = next((one.name for one in found if one.name), "object")
    return PersamModel(cast(Method, predictors[""]), label_type, name, found)


def provide_checkpoint(model: str, path: Path) -> None:
    """Link a model's checkpoint, fetched if need be, to where the zoo expects it.

    FiftyOne takes a model for downloaded if the file is there; `load_sam` reads, and checks, the
    one it links to.
    """
    source = MODELS[model].provide(download=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        path.symlink_to(source)
    except OSError:  # a file system, or a user, without symbolic links
        try:
            os.link(source, path)
        except OSError:
            shutil.copyfile(source, path)


def _loaded(photo: Any, predictor: Method) -> LoadedPhoto:
    pixels, size = predictor.sam.load_and_resize(photo, predictor.contrast)
    return LoadedPhoto("", pixels, size)


def _look_again(reference: SampleReference) -> SampleReference:
    if not fo.dataset_exists(reference.dataset):
        raise BadReferenceError(f"dataset {reference.dataset!r} is gone")
    dataset = fo.load_dataset(reference.dataset)
    # A view reads the database; the dataset's own sample may be somebody's unsaved work.
    sample = dataset.select(reference.sample_id)
    choice = sample if reference.label_id is None else (sample, reference.label_id)
    return resolve_references(
        dataset, choice, reference.label_field, mask_value=reference.mask_value
    )[0]


def _dataset(dataset: Any, reference: Any) -> Any:
    """The dataset that sample ids are looked up in."""
    if isinstance(dataset, str):
        if not fo.dataset_exists(dataset):
            raise BadReferenceError(f"there is no dataset {dataset!r}: pass its name or itself")
        return fo.load_dataset(dataset)
    if dataset is None and _has_ids(reference):
        raise BadReferenceError("a sample id needs its dataset: pass dataset=<its name> as well")
    return dataset


def _has_ids(reference: Any) -> bool:
    if isinstance(reference, str):
        return True
    if isinstance(reference, tuple):
        return bool(reference) and isinstance(reference[0], str)
    return isinstance(reference, list) and any(_has_ids(item) for item in reference)
