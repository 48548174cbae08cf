"""The review panel's events, as its buttons send them."""

from __future__ import annotations

import json

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation import make_editable
from fiftyone_persam.curation.review.decisions import undo_steps
from fiftyone_persam.curation.review.table import review_counts, review_queue, review_view
from fiftyone_persam.curation.runs.record import RunState

from ..curation.reviewed_run import RUN, add_run, ids_of, photos_of, reviewed_run
from .context import PanelTab, uris


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    return reviewed_run(dataset, tmp_path)


def end_as(album: fo.Dataset, state: str) -> None:
    """Write down how the run has ended."""
    info = album.get_run_info(RUN)
    info.config.state = state
    album.update_run_config(RUN, info.config)


def prompted(requests: list[dict]) -> dict:
    """The form that the panel asks the App to open."""
    (found,) = [r["params"] for r in requests if r["operator_uri"] == "prompt_user_for_operation"]
    return found


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (RunState.INTERRUPTED, "Stopped: 1 photo left"),
        (RunState.RUNNING, "Stopped: 1 photo left"),  # its process was killed: nobody holds it
        (RunState.FAILED, "Ended by an error: 1 photo left"),
    ],
)
def test_a_run_that_did_not_end_can_be_resumed(album, state, why):
    end_as(album, state)
    tab = PanelTab(album)
    assert tab.state["resumable"] == why
    form = prompted(tab.click("Resume"))
    assert form["operator_uri"].endswith("/resume_run")
    assert form["params"] == {"run": RUN}


def test_a_run_that_is_done_offers_no_resume(album):
    assert "Resume" not in PanelTab(album).labels


def test_resume_goes_when_the_run_is_done(album):
    end_as(album, RunState.INTERRUPTED)
    tab = PanelTab(album)
    assert "Resume" in tab.labels
    end_as(album, RunState.DONE)
    tab.click("Refresh")
    assert "Resume" not in tab.labels


@pytest.mark.parametrize(
    ("label", "operator"),
    [
        ("Rename run", "rename_run"),
        ("Delete run", "delete_run"),
        ("Failures", "show_failures"),
        ("Edit masks", "edit_masks"),
        ("Add reference", "segment_again"),
    ],
)
def test_a_button_opens_the_form_for_the_chosen_run(album, tmp_path, label, operator):
    add_run(album, tmp_path, "second")
    tab = PanelTab(album)
    tab.send("change_run", value=RUN)
    form = prompted(tab.click(label))
    assert form["operator_uri"].endswith(f"/{operator}")
    assert form["params"]["run"] == RUN


def test_what_is_rejected_teaches_the_next_run(album):
    tab = PanelTab(album)
    assert "Run again" not in tab.labels
    tab.click("Reject")
    assert "1 rejected mask will teach the next run" in tab.words
    (reference,) = fp.load_run(album, RUN).record.references
    form = prompted(tab.click("Run again"))
    assert form["operator_uri"].endswith("/segment_again")
    assert form["params"]["reference"] == reference.sample_id
    assert form["params"]["label_field"] == reference.label_field
    tab.click("Undo")
    assert "Run again" not in tab.labels


def test_the_panel_stays_with_a_renamed_run(album, tmp_path):
    add_run(album, tmp_path, "second")
    tab = PanelTab(album)
    tab.send("change_run", value=RUN)
    fp.rename_run(album, RUN, "yours")
    tab.send("renamed")
    assert tab.state["run"] == "yours"


def test_the_panel_of_a_deleted_run_shows_how_to_begin(album):
    tab = PanelTab(album)
    fp.delete_run(album, RUN)
    tab.click("Refresh")
    assert "Segment my object" in tab.labels


def test_one_click_decides_about_the_opened_photo(album):
    (sure,) = ids_of(album, "sure")
    tab = PanelTab(album, current_sample=sure)
    requests = tab.click("Accept")
    assert photos_of(review_view(album, RUN, "accepted")) == ["sure"]
    (opened,) = [r["params"] for r in requests if r["operator_uri"] == "open_sample"]
    assert opened["id"] == ids_of(album, "low_score")[0]  # on to the most doubtful
    tab.request["current_sample"] = opened["id"]
    tab.click("Reject")
    assert photos_of(review_view(album, RUN, "rejected")) == ["low_score"]
    tab.click("Undo")
    assert review_counts(album, RUN).rejected == 0


def test_thumbs_are_decisions(album):
    tab = PanelTab(album)
    assert "set_sample_selection_style" in uris(tab.click("Start reviewing"))
    up, down = ids_of(album, "sure", "low_score")
    tab.request |= {
        "selected_samples": [{"id": up, "type": "default"}, {"id": down, "type": "alt"}],
        "sample_selection_style": {"default": "thumbsup", "alt": "thumbsdown"},
    }
    tab.send("on_change_selected")
    tab.click("Save 1 accepted, 1 rejected")
    assert photos_of(review_view(album, RUN, "accepted")) == ["sure"]
    assert photos_of(review_view(album, RUN, "rejected")) == ["low_score"]


def mark(tab: PanelTab, up: tuple[str, ...] = (), down: tuple[str, ...] = ()) -> list[dict]:
    """Photos with a thumb in the grid, as the App tells of them."""
    chosen = [(i, "default") for i in up] + [(i, "alt") for i in down]
    tab.request |= {
        "selected_samples": [{"id": i, "type": kind} for i, kind in chosen],
        "sample_selection_style": {"default": "thumbsup", "alt": "thumbsdown"},
    }
    return tab.send("on_change_selected")


def test_a_thumb_is_stored_when_it_is_given(album):
    up, down, other = ids_of(album, "sure", "low_score", "good")
    tab = PanelTab(album)
    tab.click("Start reviewing")
    mark(tab, up=(up,))
    assert photos_of(review_view(album, RUN, "accepted")) == ["sure"]
    mark(tab, up=(up, other), down=(down,))  # and the browser is closed: nothing is lost
    assert set(photos_of(review_view(album, RUN, "accepted"))) == {"sure", "good"}
    mark(tab, up=(up,), down=(down,))  # one thumb is taken away
    assert str(review_counts(album, RUN)).startswith("2 todo, 1 accepted, 1 rejected")
    # Whoever clears the whole selection decides nothing, but is told so.
    assert "notify" in uris(mark(tab))
    assert str(review_counts(album, RUN)).startswith("2 todo, 1 accepted, 1 rejected")


def test_the_thumbs_until_save_are_undone_together(album):
    up, down, later = ids_of(album, "sure", "low_score", "good")
    tab = PanelTab(album)
    tab.click("Start reviewing")
    mark(tab, up=(up,))
    mark(tab, up=(up,), down=(down,))
    requests = tab.click("Save 1 accepted, 1 rejected")
    assert {"set_view", "clear_selected_samples"} <= set(uris(requests))
    assert "notify" not in uris(mark(tab))
    mark(tab, up=(later,))
    assert undo_steps(album, RUN) == 2
    # The grid shows no thumb that is undone, so Save cannot bring it back.
    assert "clear_selected_samples" in uris(tab.click("Undo"))
    assert str(review_counts(album, RUN)).startswith("2 todo, 1 accepted, 1 rejected")
    mark(tab)
    tab.click("Undo")
    assert review_counts(album, RUN).todo == 4


def test_clicks_faster_than_the_answers_are_one_step(album):
    up, down = ids_of(album, "sure", "low_score")
    tab = PanelTab(album)
    tab.click("Start reviewing")
    before = dict(tab.state)
    mark(tab, up=(up,))
    tab.state = before  # what the App sends while the first click is on its way
    mark(tab, up=(up,), down=(down,))
    assert undo_steps(album, RUN) == 1
    assert str(review_counts(album, RUN)).startswith("2 todo, 1 accepted, 1 rejected")


@pytest.mark.parametrize(
    ("event", "params"),
    [
        ("on_change_selected", {}),
        ("on_change_current_sample", {}),
        ("start", {}),
        ("save_thumbs", {}),
        ("undo", {}),
        ("show_state", {"state": "todo"}),
        ("show_score", {"idx": 0}),
        ("move_threshold", {"value": 0.5}),
        ("save_threshold", {}),
        ("evaluation_page", {}),
        ("change_run", {"value": RUN}),
    ],
)
@pytest.mark.parametrize("left", [[], ["second"]])
def test_a_run_deleted_elsewhere_is_no_error(album, tmp_path, event, params, left):
    for name in left:
        add_run(album, tmp_path, name)
    tab = PanelTab(album)
    tab.send("change_run", value=RUN)
    fp.delete_run(album, RUN)  # in the operator browser, or in a notebook
    tab.send(event, **params)
    assert (tab.state.get("run"), tab.state["runs"]) == (left[0] if left else None, left)
    assert ("Segment my object" in tab.labels) == (not left)
    tab.send(event, **params)  # a second click, while the first is on its way


def test_a_failed_photo_shows_why_and_cannot_be_accepted(album):
    (failed,) = ids_of(album, "failed")
    tab = PanelTab(album, current_sample=failed)
    assert tab.state["photo"]["error"] == "broken.jpg: cannot be read as a photo"
    assert "This photo failed: broken.jpg" in json.dumps(tab._output)
    assert not {"Accept", "Reject"} & set(tab.labels) and "Next" in tab.labels
    tab.send("accept")
    assert review_counts(album, RUN).failed == 1


def test_a_mask_is_handed_to_the_app_s_own_tools(album):
    (sure,) = ids_of(album, "sure")
    tab = PanelTab(album, current_sample=sure, active_fields=[RUN])
    requests = tab.click("Edit this mask")
    shown = [r["params"]["fields"] for r in requests if r["operator_uri"] == "set_active_fields"]
    assert shown == [[RUN, "mine_edit"]]
    album.reload()
    assert photos_of(album.exists("mine_edit")) == ["sure"]
    # What the App's Annotate asks for: a schema it can read, of a field that is active.
    assert album.active_label_schemas == ["mine_edit"]
    assert json.loads(json.dumps(album.label_schemas["mine_edit"]))["type"] == "detections"


def test_the_preview_shows_what_was_corrected_by_hand(album):
    (sure,) = ids_of(album, "sure")
    before = PanelTab(album, current_sample=sure).state["preview"]
    field = make_editable(album, RUN, ids=[sure])
    assert PanelTab(album, current_sample=sure).state["preview"] == before
    sample = album[sure]
    sample[field].detections[0].bounding_box = [0, 0, 0.2, 0.2]
    sample.save()
    assert PanelTab(album, current_sample=sure).state["preview"] != before


def test_the_panel_shows_the_photo_under_review(album):
    first, second = review_queue(album, RUN).values("id")[:2]
    tab = PanelTab(album)
    assert tab.state["current"] == first and tab.state["current_left"] == 4
    picture = tab.state["review_now"]["current_preview"]
    assert picture.startswith("data:image/jpeg;base64,")
    requests = tab.click("Accept")
    assert "open_sample" not in uris(requests)  # the panel goes on by itself
    assert review_view(album, RUN, "accepted").values("id") == [first]
    assert tab.state["current"] == second and tab.state["current_left"] == 3
    assert tab.state["review_now"]["current_preview"] != picture
    tab.click("Reject")
    assert review_view(album, RUN, "rejected").values("id") == [second]
    tab.click("Undo")
    assert tab.state["current"] == second


def test_next_passes_over_and_comes_back(album):
    queue = review_queue(album, RUN).values("id")
    tab = PanelTab(album)
    seen = []
    for _ in range(len(queue) + 1):
        seen.append(tab.state["current"])
        tab.click("Next")
    assert seen == [*queue, queue[0]]
    assert review_counts(album, RUN).todo == 4  # passing over decides nothing


def test_nothing_is_left_to_review(album):
    tab = PanelTab(album)
    for _ in range(4):
        tab.click("Accept")
    assert tab.state["current"] is None
    assert "Accept" not in tab.labels
    assert review_counts(album, RUN).accepted == 4


def test_the_photo_under_review_can_be_opened(album):
    tab = PanelTab(album)
    (opened,) = [r["params"] for r in tab.click("Open") if r["operator_uri"] == "open_sample"]
    assert opened["id"] == tab.state["current"]
