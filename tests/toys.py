"""A method, a model, a back end, an exporter and an importer as another package brings them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import fiftyone as fo
import fiftyone.utils.data as foud
import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from fiftyone_persam import Method, ModelInfo, PersamError, Prediction, PromptableSam, load_sam
from fiftyone_persam.curation.handover.formats import EXPORTERS, Export, ExportFormat
from fiftyone_persam.datasets import IMPORTERS
from fiftyone_persam.engine import BACKENDS, Job, LocalBackend
from fiftyone_persam.options import Option, check_values
from fiftyone_persam.personalize import METHODS
from fiftyone_persam.personalize.checks import several_references_of
from fiftyone_persam.sam import MODELS, ImageEmbedding
from fiftyone_persam.sam.lite import build_sam_lite


class ToyMethod(Method):
    """Masks the half of every photo on which the reference's object lies. It never decodes."""

    name = "toy"
    title = "Toy"
    help = "masks the half of the photo on which the object was"
    references = ("mask", "box")

    def __init__(
        self,
        sam: Any,
        *,
        share: Annotated[float, Option("part of the width that is masked", low=0.1, high=1)] = 0.5,
        side: Annotated[Literal["auto", "left", "right"], Option("which half")] = "auto",
    ) -> None:
        check_values(self.options(), {"share": share, "side": side})
        self.sam = load_sam(sam)
        self.share = share
        self.side = side
        self.left: Tensor | None = None

    def fit(self, reference: Any, embeddings: Any = None) -> ToyMethod:
        (one,) = several_references_of(reference, self.references, self.title)
        middle = one.box[[0, 2]].mean() if one.box is not None else one.mask.nonzero()[1].mean()
        left = middle < one.size[1] / 2 if self.side == "auto" else self.side == "left"
        self.left = torch.tensor([float(left)])
        return self

    def predict_embeddings(
        self, embeddings: Sequence[ImageEmbedding], batch_size: int | None = None
    ) -> list[Prediction]:
        return [self._half(embedding) for embedding in embeddings]

    def state_dict(self) -> dict[str, Tensor]:
        if self.left is None:
            raise PersamError("Toy knows no object yet: call fit(reference) first")
        return {"left": self.left}

    @classmethod
    def from_state(
        cls, sam: Any, state: Mapping[str, Tensor], settings: Mapping[str, Any]
    ) -> ToyMethod:
        loaded = cls(sam, **settings)
        loaded.left = state["left"]
        return loaded

    def _half(self, embedding: ImageEmbedding) -> Prediction:
        height, width = embedding.original_size
        mask = np.zeros((height, width), np.bool_)
        wide = round(width * self.share)
        mask[:, :wide] = True
        if not self.state_dict()["left"]:
            mask = mask[:, ::-1].copy()
        rows, columns = embedding.valid_grid
        similarity = np.zeros((rows, columns), np.float32)
        points = np.array([[width // 2, height // 2]])
        return Prediction(mask, 1.0, 0.5, similarity, points, np.ones(1, int), None, "toy", 1, mask)


class ToyModel:
    """A model that can be named: random weights of a small architecture."""

    name = "toy_sam"

    def info(self) -> ModelInfo:
        return ModelInfo(self.name, 0, 64, "bundled", Path(__file__), True, "for these tests")

    def provide(self, download: bool) -> Path:
        return Path(__file__)

    def load(self, device: Any, dtype: Any, download: bool) -> PromptableSam:
        torch.manual_seed(0)
        sam: Sam = build_sam_lite(64).eval()
        return PromptableSam(sam, self.name, device, dtype, checkpoint_sha256="toy")


class ToyBackend:
    """Works in this process, from the last photo to the first."""

    name = "toy_backend"
    help = "in this process, backwards"
    in_process = True

    @staticmethod
    def available() -> bool:
        return True

    def run(self, job: Job) -> Any:
        return LocalBackend().run(replace(job, tasks=list(job.tasks)[::-1]))


def _write_list(export: Export) -> None:
    paths = [Path(sample.filepath) for sample in export.chosen.samples()]
    (export.stage.path / "photos.txt").write_text("\n".join(path.name for path in paths))
    export.count = len(paths)


class ToyImporter(foud.UnlabeledImageDatasetImporter):  # type: ignore[misc]
    """Photos by their paths, one in a line."""

    def setup(self) -> None:
        self._paths = (Path(self.dataset_dir) / "photos.txt").read_text().split()

    def __iter__(self) -> ToyImporter:
        self._left = iter(self._paths)
        return self

    def __next__(self) -> tuple[str, None]:
        return next(self._left), None

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def has_dataset_info(self) -> bool:
        return False

    @property
    def has_image_metadata(self) -> bool:
        return False


class ToyDataset(fo.types.Dataset):  # type: ignore[misc]
    name = "toy_list"

    def get_dataset_importer_cls(self) -> type[ToyImporter]:
        return ToyImporter


@contextmanager
def registered() -> Iterator[None]:
    """All of that, by one registration each."""
    METHODS.register(ToyMethod)
    MODELS.register(ToyModel())
    BACKENDS.register(ToyBackend)
    EXPORTERS.register(ExportFormat("toy_list", "names of photos, one in a line", _write_list))
    IMPORTERS.register(ToyDataset)
    try:
        yield
    finally:
        METHODS.unregister(ToyMethod.name)
        MODELS.unregister(ToyModel.name)
        BACKENDS.unregister(ToyBackend.name)
        EXPORTERS.unregister("toy_list")
        IMPORTERS.unregister("toy_list")
