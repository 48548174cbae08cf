"""A file of a run's masks that is no mask any more costs its own photo, and nobody waits for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation import make_editable, set_review
from fiftyone_persam.curation.handover.dreambooth import export_dreambooth
from fiftyone_persam.curation.handover.export import EXPORTERS, export_masks
from fiftyone_persam.curation.handover.promotion import promote

from ..discs import tiny_sam
from ..reviewed_run import RUN, ids_of, reviewed_run


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


FAULTS: dict[str, Callable[[Path], Any]] = {
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "text": lambda path: path.write_text("no mask"),
    "empty": lambda path: path.write_bytes(b""),
    "cut short": _cut,
}


@pytest.fixture(params=FAULTS)
def album(request: pytest.FixtureRequest, dataset: Any, tmp_path: Path) -> fo.Dataset:
    """The run's mask of "good" is damaged; "sure" is the only other photo that is accepted."""
    made = reviewed_run(dataset, tmp_path)
    set_review(made, RUN, "accepted", ids_of(made, "sure", "good"))
    FAULTS[request.param](Path(made[ids_of(made, "good")[0]][RUN].mask_path))
    return made


def is_about_it(reason: str) -> None:
    assert "\n" not in reason and "good" in reason


def test_exports_leave_its_photo_out(album: fo.Dataset, tmp_path: Path) -> None:
    is_file = Path(album[ids_of(album, "good")[0]][RUN].mask_path).is_file()
    for format in EXPORTERS:
        if format == "fiftyone" and is_file:
            continue  # files are copied as they are
        done = export_masks(album, RUN, tmp_path / format, format)
        assert done == 1 and len(done.left_out) == 1
        is_about_it(done.left_out[0])
    done = export_dreambooth(album, RUN, tmp_path / "training", label="cup")
    assert done == 1  # the others lack the object, or failed
    (reason,) = [one for one in done.left_out if not one.startswith(("absent", "failed"))]
    is_about_it(reason)


def test_promotions_leave_its_photo_out(album: fo.Dataset) -> None:
    for kind in ("segmentation", "detections"):
        promotion = promote(album, RUN, kind, kind=kind)
        assert list(promotion.left_out) == ids_of(album, "good")
        is_about_it(str(promotion))
        assert promotion.promoted == album.exists(kind).values("id") == ids_of(album, "sure")
    folder = Path(album[promotion.promoted[0]]["segmentation"].mask_path).parent
    assert len(list(folder.iterdir())) == 1


def test_editing_and_suggesting_leave_its_photo_out(
    album: fo.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    field = make_editable(album, RUN)
    done = set(album.exists(RUN).values("id"))
    assert set(album.exists(field).values("id")) == done - set(ids_of(album, "good"))
    assert "1 photos are left out, the first: the mask of good.png" in caplog.text
    with pytest.raises(fp.PersamError, match=r"no mask can be edited, .*: the mask of good.png"):
        make_editable(album, RUN, ids_of(album, "good"))
    caplog.clear()
    found = fp.suggest_reference(album, RUN, tiny_sam())
    assert set(found.ids) == set(album.exists(RUN).values("id")) - set(ids_of(album, "good"))
    assert "1 photos are left out, the first: the mask of good.png" in caplog.text


def test_a_photo_that_is_gone_is_not_suggested(
    dataset: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = reviewed_run(dataset, tmp_path)
    Path(made[ids_of(made, "good")[0]].filepath).unlink()
    for field in (RUN, None):
        found = fp.suggest_reference(made, field, tiny_sam())
        known = made.exists(RUN) if field else made
        assert set(found.ids) == set(known.values("id")) - set(ids_of(made, "good"))
    assert caplog.text.count("1 photos are left out, the first: photo") == 2
    assert "good.png does not exist" in caplog.text
