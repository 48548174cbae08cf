"""Episodes answered by the real methods, on the bundled model and real photos."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import fiftyone_persam as fp
from benchmarks import one_shot as command
from fiftyone_persam.datasets.one_shot import episodes, read_benchmark, run_episodes
from fiftyone_persam.datasets.one_shot.regions import load_mask, load_view
from fiftyone_persam.engine import MemoryCache
from fiftyone_persam.errors import PersamError

from .layouts import write_coco, write_paco


@pytest.fixture(scope="module")
def sam():
    return fp.load_sam("sam_lite")


def test_an_answer_is_the_method_s_own(sam, album):
    """The same pipeline written out: squash, fit, predict, compare, sum by class."""
    index = read_benchmark("perseg", album)
    run = run_episodes(index, 0, sam, fp.PerSAM)
    side = sam.image_size
    sums: dict[int, np.ndarray] = {}
    for episode in episodes(index, 0):
        pixels, masks = [], []
        for example in (*episode.supports, episode.query):
            from PIL import Image

            small = Image.fromarray(load_view(example)).resize((side, side), Image.BILINEAR)
            pixels.append(np.asarray(small))
            mask = load_mask(example).astype(np.uint8)
            masks.append(cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST_EXACT) > 0)
        persam = fp.PerSAM(sam, presence_threshold=0.0).fit(fp.Reference(pixels[0], mask=masks[0]))
        answer = persam.predict([pixels[1]])[0].mask
        counts = sums.setdefault(episode.class_index, np.zeros(2, int))
        counts += ((answer & masks[1]).sum(), (answer | masks[1]).sum())
    expected = {index.classes[i].name: both / either for i, (both, either) in sums.items()}
    assert run.scores.classes == pytest.approx(expected, abs=2e-3)
    assert run.scores.miou == pytest.approx(np.mean(list(expected.values())), abs=2e-3)
    assert run.scores.miou > 0.6 and run.scores.episodes == 4


def test_each_photo_is_encoded_once(sam, source, tmp_path):
    index = read_benchmark("coco20i", write_coco(tmp_path, source))
    cache = MemoryCache()
    done = []
    run = run_episodes(
        index, 0, sam, fp.PerSAM, limit=12, cache=cache, progress=lambda n, total: done.append(n)
    )
    views = {e.view for ep in episodes(index, 0, limit=12) for e in (*ep.supports, ep.query)}
    assert run.encoded == len(views) and run.scores.episodes == 12
    assert done == list(range(1, 13))
    supports = {tuple(map(id, one.supports)) for one in episodes(index, 0, limit=12)}
    assert len(supports) == run.fitted < 12  # one that comes again is known
    again = run_episodes(index, 0, sam, fp.PerSAMF, limit=12, cache=cache)
    assert again.encoded == 0


def test_crops_of_one_photo_are_different_views(sam, source, tmp_path):
    index = read_benchmark("paco_part", write_paco(tmp_path, source))
    run = run_episodes(index, 0, sam, fp.PerSAM, limit=4)
    assert run.scores.episodes == 4 and 0 <= run.scores.miou <= 1


def test_nothing_to_answer(sam, album):
    index = read_benchmark("perseg", album)
    with pytest.raises(PersamError, match="no episode"):
        run_episodes(index, 0, sam, fp.PerSAM, limit=0)


def test_the_command(album, capsys):
    code = command.main(["--dataset", "perseg", "--root", str(album), "--methods", "persam"])
    lines = capsys.readouterr().out.strip().splitlines()
    assert code == 0
    assert any(line.startswith("published: PerSAM 89.3") for line in lines)
    name, value = lines[-1].split()
    assert name == "persam" and 60 < float(value) <= 100


def test_threads_change_nothing(sam, source, tmp_path):
    index = read_benchmark("coco20i", write_coco(tmp_path, source))
    cache = MemoryCache()
    one, several = (
        run_episodes(index, 0, sam, fp.PerSAM, limit=16, cache=cache, workers=n) for n in (1, 4)
    )
    assert one.scores.classes == pytest.approx(several.scores.classes, abs=1e-3)


def test_wrong_options_are_refused_once(sam, album):
    index = read_benchmark("perseg", album)
    with pytest.raises(PersamError, match="mode 'fast'"):
        run_episodes(index, 0, sam, fp.PerSAM, mode="fast")
