"""The location prior of things: its points lie on the proposal that is most like the object."""

from __future__ import annotations

from pathlib import Path

from fiftyone_persam.datasets.mask_files import read_mask
from fiftyone_persam.personalize import PerSAM, Reference
from fiftyone_persam.personalize.proposal_prior import most_alike
from fiftyone_persam.sam import load_photo, load_sam


def test_points_lie_on_the_thing_that_is_most_alike(album: Path) -> None:
    sam = load_sam("sam_lite")
    first, second = sorted((album / "Images" / "cat").iterdir())[:2]
    masks = [read_mask(album / "Annotations" / "cat" / f"{p.stem}.png") for p in (first, second)]
    method = PerSAM(sam, location_prior="proposals").fit(
        Reference(load_photo(first), mask=masks[0])
    )
    embedding = sam.encode([second])[0]
    batch, _ = method.locate([embedding])
    cells = most_alike(sam, embedding, batch.similarity[0], batch.similarity[0] > -2)
    assert cells is not None and 0 < int(cells.sum()) < cells.numel()
    height, width = embedding.original_size
    positives = batch.points[0][batch.labels == 1]
    for x, y in positives:
        row = int(y * embedding.scale[1] / sam.image_size * cells.shape[0])
        column = int(x * embedding.scale[0] / sam.image_size * cells.shape[1])
        assert bool(cells[row, column])
        assert 0 <= x < width and 0 <= y < height
    assert masks[1][positives[0][1], positives[0][0]]
