"""Frames of video files: all of them, in order, upright, and one line for what cannot be read."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiftyone_persam.errors import PhotoError
from fiftyone_persam.sam import frames
from fiftyone_persam.sam.frames import FrameReader, frame_index, load_frame, video_info

from ..films import scene, turn_film, write_film

LEVELS = [20, 60, 100, 140, 180, 220]


def grey(level: int, channels: int = 3) -> np.ndarray[Any, Any]:
    return np.full((48, 64, channels), level, np.uint8)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_film(tmp_path / "film.mp4", [grey(level) for level in LEVELS])


def levels(path: Path, numbers: Any) -> list[int]:
    with closing(FrameReader(path)) as reader:
        return [round(float(reader.read(n).mean()), -1) for n in numbers]


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])  # the latter has frames out of order
@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv"])
def test_every_frame_has_its_number(tmp_path: Path, codec: str, ending: str) -> None:
    path = write_film(tmp_path / f"film{ending}", [grey(v) for v in LEVELS], codec=codec)
    info = video_info(path)
    assert (info.frames, info.width, info.height, info.rate) == (6, 64, 48, 5)
    assert info.duration == pytest.approx(1.2) and info.size_bytes == path.stat().st_size
    assert levels(path, range(1, 7)) == LEVELS
    assert [round(float(load_frame(path, n).mean()), -1) for n in (6, 1, 3)] == [220, 20, 100]
    assert load_frame(path, 1).dtype == np.uint8 and load_frame(path, 1).shape == (48, 64, 3)


def test_frames_are_decoded_once(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, pixels = [], frames._pixels
    monkeypatch.setattr(frames, "_pixels", lambda one: decoded.append(one.pts) or pixels(one))
    opened, begin = [], frames._decoded
    monkeypatch.setattr(frames, "_decoded", lambda *it: opened.append(it) or begin(*it))
    assert levels(film, [1, 3, 6]) == [20, 100, 220]
    assert len(decoded) == 3 and len(opened) == 1  # what nobody wants is not made a picture
    assert levels(film, [3, 1]) == [100, 20]
    assert len(opened) == 3  # backwards: the file is begun anew


def test_threads_may_come_out_of_turn(film: Path) -> None:
    with closing(FrameReader(film, range(1, 7))) as reader, ThreadPoolExecutor(4) as pool:
        read = pool.map(reader.read, [2, 1, 4, 3, 6, 5])
        assert [round(float(one.mean()), -1) for one in read] == [60, 20, 140, 100, 220, 180]
    with closing(FrameReader(film, range(1, 7))) as reader:
        reader.forget(1)
        reader.read(3)
        assert set(reader._kept) == {2}
        reader.forget(2)
        assert not reader._kept


def test_a_variable_rate_changes_no_number(tmp_path: Path) -> None:
    times = [0, 1, 5, 6, 20, 21]
    path = write_film(tmp_path / "film.mkv", [grey(v) for v in LEVELS], times=times)
    assert video_info(path).frames == 6 and levels(path, range(1, 7)) == LEVELS


def test_a_phone_held_upright(tmp_path: Path) -> None:
    picture = scene([("red", 30, 30)])
    path = write_film(tmp_path / "film.mp4", [picture] * 2)
    turn_film(path)
    shown = load_frame(path, 1)
    assert shown.shape == (160, 120, 3)
    assert np.abs(shown.astype(int) - np.rot90(picture, -1)).mean() < 8
    assert (video_info(path).width, video_info(path).height) == (120, 160)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    picture = np.dstack([grey(0), np.full((48, 64), 0, np.uint8)])
    path = write_film(tmp_path / "film.mov", [picture], codec="png", pixels="rgba")
    assert (load_frame(path, 1) == 255).all()


def test_a_truncated_film_is_read_up_to_its_end(tmp_path: Path) -> None:
    noise = [np.random.default_rng(n).integers(0, 255, (48, 64, 3), np.uint8) for n in range(6)]
    path = write_film(tmp_path / "film.mkv", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    count = video_info(path).frames
    assert 1 < count < 6
    with pytest.raises(PhotoError, match=r"film.mkv has no frame 6: \d frames of it can be read"):
        load_frame(path, 6)


def _sound(path: Path) -> None:
    import av

    with av.open(str(path), "w") as film:
        stream: Any = film.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.rate = 8000
        film.mux(stream.encode(frame))


@pytest.mark.parametrize(
    "name, make, says",
    [
        ("gone.mp4", lambda path: None, "does not exist"),
        ("text.mp4", lambda path: path.write_text("no video"), "text.mp4 cannot be read as a"),
        ("empty.mp4", lambda path: path.write_bytes(b""), "empty.mp4 cannot be read as a video"),
        ("folder.mp4", lambda path: path.mkdir(), "does not exist"),
        ("sound.wav", _sound, "sound.wav has no pictures"),
        (
            "half.mp4",
            lambda path: path.write_bytes(
                write_film(path.with_name("whole.mp4"), [grey(9)]).read_bytes()[:300]
            ),
            "half.mp4 ",
        ),
    ],
)
def test_what_is_no_video_gets_one_line(tmp_path: Path, name: str, make: Any, says: str) -> None:
    make(path := tmp_path / name)
    for look in (video_info, lambda path: load_frame(path, 1)):
        with pytest.raises(PhotoError, match=says) as raised:
            look(path)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number, says", [(0, "counted from 1"), (7, "has no frame 7: 6 frames")])
def test_a_frame_that_is_not_there(film: Path, number: int, says: str) -> None:
    with pytest.raises(PhotoError, match=says):
        load_frame(film, number)


def test_a_playlist_reads_no_other_machine(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/film.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(PhotoError, match=r"list.m3u8 "):
        load_frame(path, 1)


def test_backwards_costs_few_beginnings(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "FEWEST_KEPT", 2)
    monkeypatch.setattr(frames, "MOST_KEPT", 2)
    opened, begin = [], frames._decoded
    monkeypatch.setattr(frames, "_decoded", lambda *it: opened.append(it) or begin(*it))
    with closing(FrameReader(film, range(1, 7))) as reader:
        found = []
        for number in range(6, 0, -1):
            found.append(round(float(reader.read(number).mean()), -1))
            assert len(reader._kept) <= 2
        assert found == LEVELS[::-1]
    assert len(opened) == 2  # 6, 5, 4, then 3, 2, 1


LENGTH, GOP = 48, 12
TIMES = sorted(random.Random(0).sample(range(10 * LENGTH), LENGTH))
SOUGHT: dict[str, dict[str, Any]] = {
    "b.mp4": {"codec": "libx264", "options": {"bf": "3"}},
    "vfr.mp4": {"codec": "libx264", "options": {"bf": "3"}, "times": TIMES},
    "vfr.mkv": {"codec": "libx264", "options": {"bf": "3"}, "times": TIMES},
    "open.mp4": {"codec": "libx264", "options": {"bf": "3", "x264-params": "open-gop=1"}},
    "b.avi": {"codec": "libx264", "options": {"bf": "3"}},
    "camera.ts": {"codec": "libx264", "options": {"bf": "3"}},
    "disc.mpg": {"codec": "mpeg2video", "options": {"bf": "2"}, "rate": 25},
    "web.webm": {"codec": "libvpx-vp9"},
}
READ_ON: dict[str, dict[str, Any]] = {
    "raw.h264": {"codec": "libx264", "options": {"bf": "3"}},  # frames without times, no index
    "one.mp4": {"codec": "libx264", "options": {"x264-params": "scenecut=0:keyint=999"}},
    "hidden.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}},
}


@pytest.mark.parametrize("name", [*SOUGHT, *READ_ON])
def test_wherever_reading_begins_frames_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Backwards, in the middle, at random: from the keyframe before, where the file has one."""
    asked = {**SOUGHT, **READ_ON}[name]
    asked = {**asked, "options": {"g": str(GOP), **asked.get("options", {})}}
    pictures = [scene([("red", 20 + 2 * n, 60)], n) for n in range(LENGTH)]
    path = write_film(tmp_path / name, pictures, **asked)
    decoded, begin = [], frames._decoded

    def counting(*it: Any) -> Any:
        for one in begin(*it):
            decoded.append(one.pts)
            yield one

    monkeypatch.setattr(frames, "_decoded", counting)
    monkeypatch.setattr(frames, "NEAR", 2)
    with closing(FrameReader(path)) as reader:
        expected = [reader.read(n) for n in range(1, LENGTH + 1)]
    assert len(decoded) == LENGTH == video_info(path).frames
    orders = {
        "backwards": list(range(LENGTH, 0, -1)),
        "middle": [30, 31, 45, 8, 9],
        "random": random.Random(1).sample(range(1, LENGTH + 1), LENGTH),
    }
    most = {"backwards": LENGTH, "middle": 3 * GOP, "random": 0}
    for order, numbers in orders.items():
        decoded.clear()
        with closing(FrameReader(path, numbers)) as reader:
            assert all(np.array_equal(reader.read(n), expected[n - 1]) for n in numbers), order
        if name in SOUGHT and most[order]:
            assert len(decoded) <= most[order], order


def test_backwards_no_more_is_kept_than_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few frames at a time, however long the film and the way between two keyframes is."""
    monkeypatch.setattr(frames, "FEWEST_KEPT", 4)
    monkeypatch.setattr(frames, "MOST_KEPT", 4)
    monkeypatch.setattr(frames, "NEAR", 2)
    decoded, begin = [], frames._decoded
    monkeypatch.setattr(
        frames, "_decoded", lambda *it: (decoded.append(1) or one for one in begin(*it))
    )
    pictures = [scene([], n) for n in range(LENGTH)]
    asked = {"bf": "0", "x264-params": f"scenecut=0:keyint={GOP}"}
    path = write_film(tmp_path / "film.mp4", pictures, codec="libx264", options=asked)
    index = frame_index(path)
    assert index is not None and index.keyframes.tolist() == [1, 13, 25, 37]
    with closing(FrameReader(path, range(1, LENGTH + 1))) as reader:
        for number in range(LENGTH, 0, -1):
            reader.read(number)
            assert len(reader._kept) <= 4
    assert len(decoded) <= 2 * LENGTH + 12  # 12 + 7 + 2 and so on, of each stretch


def test_an_index_that_does_not_hold_is_not_used(
    film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the packets say and the decoder does not: reading from the start is what counts."""
    wrong = frames.FrameIndex(np.arange(6) * 7 + 1, np.array([1, 3, 5]))
    monkeypatch.setattr(frames, "frame_index", lambda path: wrong)
    monkeypatch.setattr(frames, "NEAR", 0)
    assert levels(film, [6, 5, 4, 1]) == [220, 180, 140, 20]
    assert levels(film, [1, 2, 6, 4]) == [20, 60, 220, 140]
    with pytest.raises(PhotoError, match=r"film.mp4 has no frame 7: 6 frames of it can be read"):
        levels(film, [5, 7])
