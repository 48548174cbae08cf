"""Importers that read everything before the first sample is made, so that a fault adds nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar

import fiftyone as fo
import fiftyone.utils.data as foud

from ..errors import PersamError
from .layout import is_path


class WholeImporter(foud.GenericSampleDatasetImporter):  # type: ignore[misc]
    """An importer that finds out in `setup` what it will give, and then gives it, one by one.

    Subclasses say in `find` what samples are made of, and in `sample_of` how.

    Attributes:
        source: what ``dataset_dir`` is, as messages say it.
        fields: the names of the fields that samples get beside FiftyOne's own and the masks.

    Args:
        dataset_dir: the folder, or the file.
        on_error: "raise" or "skip".
        gt_field: field that takes the masks.
        shuffle: read in random order.
        seed: for ``shuffle``.
        max_samples: read at most this many photos.

    Raises:
        PersamError: ``dataset_dir`` is not a path.
    """

    source: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        dataset_dir: Any = None,
        on_error: str = "raise",
        gt_field: str = "ground_truth",
        shuffle: bool = False,
        seed: int | None = None,
        max_samples: int | None = None,
    ) -> None:
        if not (dataset_dir is None or is_path(dataset_dir)):
            raise PersamError(f"dataset_dir {dataset_dir!r} is not a folder: pass {self.source}")
        directory = None if dataset_dir is None else os.fspath(dataset_dir)
        super().__init__(dataset_dir=directory, shuffle=shuffle, seed=seed, max_samples=max_samples)
        self.on_error = on_error
        self.gt_field = gt_field
        self._found: list[Any] = []
        self._next: Iterator[Any] = iter(())

    def find(self) -> list[Any]:
        """Find and read everything: one item for each sample that there will be.

        Raises:
            PersamError: something cannot be used.
        """
        raise NotImplementedError

    def sample_of(self, item: Any) -> fo.Sample:
        """The sample of an item."""
        raise NotImplementedError

    def setup(self) -> None:
        """Check the options, find and read everything."""
        self.check_options()
        self._found = self.find()

    def check_options(self) -> None:
        """Raise PersamError for an option that is not one."""
        if self.dataset_dir is None:
            raise PersamError(f"dataset_dir is missing: pass {self.source}")
        self._check_choice("on_error", ("raise", "skip"))
        limit = self.max_samples
        whole = isinstance(limit, Integral) and not isinstance(limit, bool)
        if limit is not None and not (whole and limit > 0):
            raise PersamError(f"max_samples {limit!r} is not a number of photos: give 1 or more")
        name = self.gt_field
        plain = isinstance(name, str) and name.isascii() and name.isidentifier()
        if not plain or name.startswith("_"):
            raise PersamError(
                f"gt_field {name!r} cannot name a field: use letters, digits and underscores"
            )
        if name in (*self.fields, *fo.Sample("photo.jpg").field_names):
            raise PersamError(f"gt_field {name!r} is another field's name: choose another")

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise PersamError(
                f"{name} {getattr(self, name)!r} is not known: give "
                f"{' or '.join(map(repr, choices))}"
            )

    def __iter__(self) -> WholeImporter:
        self._next = iter(self._found)
        return self

    def __next__(self) -> fo.Sample:
        return self.sample_of(next(self._next))

    def __len__(self) -> int:
        return len(self._found)

    @property
    def has_dataset_info(self) -> bool:
        """What was skipped, at least."""
        return True

    @property
    def has_sample_field_schema(self) -> bool:
        """The fields are known before the first sample is."""
        return True
