"""The episode stream, against the published loaders' calls written out with numpy's own state."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from fiftyone_persam.datasets.one_shot import episodes, read_benchmark
from fiftyone_persam.datasets.one_shot.sampling import count
from fiftyone_persam.errors import PersamError

from .layouts import write_coco, write_fss, write_lvis, write_paco, write_pascal


def one_of(items):
    return items[np.random.choice(len(items), 1, replace=False)[0]]


def names(found):
    return [(e.class_index, e.query.photo.stem, e.supports[0].photo.stem) for e in found]


def test_fss(source, tmp_path):
    index = read_benchmark("fss1000", write_fss(tmp_path, source))
    np.random.seed(0)
    expected = []
    for one in range(2):
        for query in sorted(f"{n}.jpg" for n in range(1, 11)):
            while True:
                support = f"{np.random.choice(range(1, 11), 1, replace=False)[0]}.jpg"
                if support != query:
                    break
            expected.append((one, query[:-4], support[:-4]))
    assert names(episodes(index, 0)) == expected
    assert count(index, 0) == 20


def test_lvis(source, tmp_path):
    index = read_benchmark("lvis92i", write_lvis(tmp_path, source, classes=20))
    fold = 3
    classes = [3, 13]
    photos = {one: [k.split("/")[1][:-4] for k in index.photos[one]] for one in classes}
    np.random.seed(0)
    expected = []
    for number in range(50):
        one = classes[number % 2]
        query = np.random.choice(photos[one], 1, replace=False)[0]
        while (support := np.random.choice(photos[one], 1, replace=False)[0]) == query:
            pass
        expected.append((one, query, support))
    assert names(islice(episodes(index, fold), 50)) == expected
    assert count(index, fold) == 2300


def test_coco(source, tmp_path):
    index = read_benchmark("coco20i", write_coco(tmp_path, source))
    np.random.seed(0)
    expected = []
    for _ in range(50):
        one = np.random.choice([1, 5], 1, replace=False)[0]
        stems = [key.split("/")[1][:-4] for key in index.photos[one]]
        query = np.random.choice(stems, 1, replace=False)[0]
        while (support := np.random.choice(stems, 1, replace=False)[0]) == query:
            pass
        expected.append((one, query, support))
    assert names(islice(episodes(index, 1), 50)) == expected
    assert count(index, 1) == 1000


def test_pascal(source, tmp_path):
    index = read_benchmark("pascal_part", write_pascal(tmp_path, source))

    def draw(one, used):
        while True:
            photo = one_of(index.photos[one])
            if photo in used:
                continue
            if one_of(["has the part", "lacks it"]) == "has the part":
                return photo

    np.random.seed(0)
    expected = []
    for number in range(8):
        one = number % 2
        query = draw(one, [])
        expected.append((one, query, draw(one, [query])))
    assert names(episodes(index, 0)) == expected
    assert count(index, 0) == 8


def test_paco(source, tmp_path):
    index = read_benchmark("paco_part", write_paco(tmp_path, source))
    np.random.seed(0)
    expected = []
    for _ in range(30):
        one = one_of([2])
        keys = index.photos[one]
        query = one_of(keys)
        one_of([0])  # the one object of the photo
        while (support := one_of(keys)) == query:
            pass
        one_of([0])
        expected.append((one, query.split("/")[1][:-4], support.split("/")[1][:-4]))
    assert names(islice(episodes(index, 2), 30)) == expected
    assert count(index, 2) == 2500


def test_perseg(album, source):
    index = read_benchmark("perseg", album)
    found = names(episodes(index, 0))
    assert found == [(i, f"{n:02}", "00") for i in (0, 1) for n in (1, 2)]
    assert count(index, 0) == 4


def test_the_same_seed_gives_the_same_episodes(source, tmp_path):
    index = read_benchmark("coco20i", write_coco(tmp_path, source))
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    first = names(islice(episodes(index, 0), 40))
    assert first == names(islice(episodes(index, 0), 40))
    assert first != names(islice(episodes(index, 0, seed=1), 40))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # nobody else's dice


def test_more_shots(source, tmp_path):
    index = read_benchmark("fss1000", write_fss(tmp_path, source))
    for episode in episodes(index, 0, shots=5):
        assert len(episode.supports) == 5
        assert episode.query not in episode.supports


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 4}, "has no fold 4: choose one of 0, 1, 2, 3"),
        ({"shots": 0}, "shots 0"),
        ({"shots": 2.5}, "shots 2.5"),
        ({"limit": -1}, "limit -1"),
        ({"shots": 3}, "3 shots need 4 or more"),
    ],
)
def test_bad_requests(options, message, source, tmp_path):
    index = read_benchmark("coco20i", write_coco(tmp_path, source))
    with pytest.raises(PersamError, match=message):
        list(episodes(index, **{"fold": 0, **options}))
