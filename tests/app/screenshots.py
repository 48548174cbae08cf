"""The README's pictures of the App: ``python -m tests.app.screenshots [folder [name ...]]``.

Runs the real App on the demo album, in a FiftyOne home that is deleted afterwards.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# First of all: it sets where FiftyOne keeps its things, which FiftyOne reads while it is imported.
from .. import conftest  # noqa: F401  isort: skip

import fiftyone as fo
from PIL import Image
from playwright.sync_api import expect

import fiftyone_persam as fp
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.curation.review.table import review_queue
from fiftyone_persam.datasets import build_album

from ..operators.context import ROOT, link_plugin
from . import stage
from .driver import SLOW, App

OBJECTS = ("cat", "cup", "flower")
LIMIT = 300_000  # bytes
METHODS = ("persam", "persam_f")  # also the names of the runs


def main(folder: Path, only: Sequence[str] = ()) -> None:
    """Take all pictures, or some of them."""
    folder.mkdir(parents=True, exist_ok=True)
    link_plugin()
    with tempfile.TemporaryDirectory() as scratch:
        album = _album(Path(scratch))
        with stage.open_browser() as browser, stage.open_server() as session:
            for take in (form, pick, annotate, masks, review, evaluation, methods):
                if only and take.__name__ not in only:
                    continue
                with stage.open_tab(browser, session, 1440, 900) as app:
                    take(app, album)
                    _save(app, folder / f"{take.__name__}.webp")
        album.delete()


def form(app: App, album: Any) -> None:
    """The form: reference, thumbnail, what will happen."""
    app.open(album.name)
    app.select(1)
    app.action("segment_from_reference").click()
    expect(app.form.locator("img[src^='data:image']")).to_be_visible(timeout=SLOW)
    expect(app.button("Segment")).to_be_enabled(timeout=SLOW)
    expect(app.form.get_by_text("Required property")).to_have_count(0)


def pick(app: App, album: Any) -> None:
    """An unlabelled photo in the form, with numbered proposals to click."""
    photos = _unlabelled(album)
    app.open(photos.name)
    app.select(1)
    form = app.start("Segment my object")
    expect(form.get_by_alt_text("Pick 1", exact=True)).to_be_visible(timeout=SLOW)
    expect(form.get_by_text("Required property")).to_have_count(0)


def annotate(app: App, album: Any) -> None:
    """An unlabelled photo in the App's own annotation."""
    photos = _unlabelled(album)
    photos.add_sample_field("cup", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    photos.set_label_schemas({"cup": photos.generate_label_schemas("cup")})
    photos.activate_label_schemas(["cup"])
    app.open(photos.name)
    modal = app.open_photo(1)
    modal.locator("[data-cy=annotate]").click()
    expect(modal.locator("[data-cy=sidebar]")).to_be_visible()
    app.expect_drawn()


def _unlabelled(album: Any) -> Any:
    name = "my-photos"
    if fo.dataset_exists(name):
        fo.delete_dataset(name)
    photos = fo.Dataset(name)
    photos.add_samples([fo.Sample(path) for path in album.values("filepath")[5:10]])
    return photos


def masks(app: App, album: Any) -> None:
    """The masks of a run in the grid."""
    app.open(album.name)
    app.expect_drawn()  # what is switched on before that, the App may forget to draw
    app.page.locator("[data-cy=checkbox-persam_f]").click()
    app.expect_drawn()


def review(app: App, album: Any) -> None:
    """The review panel: counts, histograms, and thumbs in the queue."""
    app.open(album.name)
    panel = app.open_panel("review_masks")
    panel.get_by_role("button", name="Start reviewing").click()
    expect(panel.locator(".plotly .bars .point path")).not_to_have_count(0)
    for index in (0, 2, 3):
        # Not faster than a person: the App's own tab shows for ever that it is loading where thumbs
        # come before the last one's answer is drawn.
        app.expect_drawn()
        app.select(index, down=index == 0)
    expect(panel.get_by_role("button", name="Save 2 accepted, 1 rejected")).to_be_enabled()
    app.expect_drawn()


def methods(app: App, album: Any) -> None:
    """Two methods in FiftyOne's own Model Evaluation panel."""
    app.open(album.name)
    app.page.locator("[data-cy=checkbox-persam_f]").click()
    app.open_panel("model_evaluation_panel_builtin")
    app.compare_evaluations("persam_f_eval", "persam_eval")
    app.expect_drawn()


def evaluation(app: App, album: Any) -> None:
    """Per-object numbers of a run beside its photos, worst first."""
    app.open(album.name)
    panel = app.open_panel("review_masks")
    panel.get_by_role("button", name="Evaluation").click()
    expect(panel.get_by_role("cell", name="cup").first).to_be_visible()
    panel.get_by_role("row").last.get_by_role("button").click()  # the mean: all photos
    app.expect_drawn()


def _album(folder: Path) -> Any:
    build_album(folder / "album", objects=OBJECTS, photos=5)
    album = fo.Dataset.from_dir(
        dataset_dir=str(folder / "album"), dataset_type=fp.PerSegDataset, name="my-album"
    )
    references = album.match(fo.ViewField("role") == "reference")
    for method in METHODS:
        options = {"method": method, "out_field": method, "group_by": "object"}
        fp.segment(album, reference=references, masks_dir=str(folder / method), **options)
        fp.evaluate(album, method, eval_key=f"{method}_eval", group_by="object")
    done = review_queue(album, "persam_f").values("id")[-4:]
    set_review(album, "persam_f", "accepted", done)
    return album


def _save(app: App, path: Path) -> None:
    app.page.mouse.move(2, 450)
    picture = Image.open(io.BytesIO(app.page.screenshot()))
    picture.convert("RGB").save(path, quality=82, method=6)
    size = path.stat().st_size
    assert size < LIMIT, f"{path} has {size} bytes"
    print(f"{path.name}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "operators" / "assets", sys.argv[2:])
