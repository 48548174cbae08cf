from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_persam.curation.evaluation.histograms import between, histogram_of
from fiftyone_persam.curation.review.table import review_table

from ..reviewed_run import RUN, reviewed_run


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    return reviewed_run(dataset, tmp_path)


def test_histogram_counts_every_finite_value(album):
    table = review_table(album, RUN)
    histogram = histogram_of(table.score, bins=4)
    assert histogram.counts.sum() == np.isfinite(table.score).sum() == 5
    for i, count in enumerate(histogram.counts):
        view = between(album, "mine_score", histogram.edges[i], histogram.edges[i + 1], last=i == 3)
        assert len(view) == count


@pytest.mark.parametrize("values", [[], [np.nan], [0.5], [0.5, 0.5]])
def test_histogram_of_few_values(values):
    histogram = histogram_of(np.array(values))
    assert histogram.counts.sum() == np.isfinite(values).sum()
