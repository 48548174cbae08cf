"""Commands that cannot be carried out: one line, and nothing has changed."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_persam.cli.main import main

from ..curation.discs import state_of
from .commands import NAME, Call, reference_of


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["segment", "nothing", "--reference", "x"], "there is no dataset 'nothing'"),
        (["segment", NAME], "give --reference ID or --reference-tag TAG"),
        (["segment", NAME, "--reference", "x", "--reference-tag", "y"], "--reference ID or"),
        (["segment", NAME, "--reference-tag", "y", "--label-id", "z"], "--label-id belongs to"),
        (["segment", NAME, "--reference", "5"], "no sample with id '5'"),
        (["segment", NAME, "--reference-tag", "nobody"], "the reference is empty"),
        (["segment", NAME, "--reference", "CAT", "--tag", "nobody"], "no photo to segment"),
        (["segment", NAME, "--reference", "CAT", "--view", "v"], "has no saved view 'v'"),
        (["segment", NAME, "--reference", "CAT", "--model", "sam_huge"], "sam_huge"),
        (["segment", NAME, "--reference", "CAT", "--device", "abacus"], "abacus"),
        (["segment", NAME, "--reference", "CAT", "--out-field", "object"], "field 'object'"),
        (["segment", NAME, "--reference", "CAT", "--group-by", "object"], "no reference for 'cup'"),
        (["segment", NAME, "--reference", "CAT", "--batch-size", "0"], "batch_size 0"),
        (["segment", NAME, "--reference", "CAT", "--presence-threshold", "2"], "out of range"),
        *(
            (["segment", NAME, "--reference", "CAT", "--option", *given], message)
            for given, message in (
                (["presence_threshold=2"], "out of range"),
                (["presence_threshold=0.3", "--presence-threshold", "0.3"], "is given twice"),
                (["mode=reference", "--mode", "reference"], "is given twice"),
                # Arguments of `segment` are not options of a method.
                (["label_field=x"], "'label_field' is not an option of persam_f"),
                (["samples=x"], "'samples' is not an option of persam_f"),
                (["device=cpu"], "'device' is not an option of persam_f"),
            )
        ),
        (["segment", NAME, "--reference", "CAT", "--mask-value", "7"], "no pixel of value 7"),
        (
            ["segment", NAME, "--reference", "CAT", "--mask-class", "red"],
            "'red' is neither a class",
        ),
        (["segment", NAME, "--reference", "CAT", "--masks-dir", "/dev/null/x"], "/dev/null"),
        (["evaluate", NAME, "nothing"], "no field 'nothing'"),
        (["evaluate", NAME, "ground_truth"], "cannot be compared with itself"),
        (["runs", "list", "nothing"], "there is no dataset 'nothing'"),
        (["runs", "show", NAME, "x"], "no run 'x'"),
        (["runs", "resume", NAME, "x"], "no run 'x'"),
        (["runs", "delete", NAME, "x"], "no run 'x'"),
        (["runs", "adopt", NAME, "x"], "no fields of a run 'x'"),
        (["runs", "rename", NAME, "x", "y"], "no run 'x'"),
        (["import", "/nowhere"], "/nowhere is not a folder"),
        (["import", "ALBUM", "--name", NAME], "already"),
        (["import", "ALBUM", "--object", "dog"], "dog"),
        (["export", NAME, "x", "/tmp/x"], "no run 'x'"),
        (["export-dreambooth", NAME, "x", "/tmp/x"], "no run and no field 'x'"),
        (["export-dreambooth", NAME, "ground_truth", "/tmp/x", "--min-score", "7"], "min_score"),
        (["models", "download", "sam_huge"], "sam_huge"),
        (["demo", "--perseg-dir", "/nowhere"], "/nowhere is not a folder"),
        (["install-plugin", "--plugins-dir", "/dev/null/x"], "cannot be put into"),
    ],
)
def test_errors_are_one_line(
    run: Call, photos: fo.Dataset, album: Path, arguments: list[str], message: str
) -> None:
    cat = reference_of(photos, "cat")
    named = {"CAT": cat, "ALBUM": str(album)}
    before, names = state_of(photos), fo.list_datasets()
    code, out, err = run(*(named.get(argument, argument) for argument in arguments))
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert "Traceback" not in out + err
    assert state_of(photos) == before and fo.list_datasets() == names


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["models"],
        ["runs", "list"],
        ["segment", NAME, "--method", "sam"],
        ["segment", NAME, "--mask-value", "red"],
        ["export", NAME, "x", "y", "--format", "zip"],
        ["export-dreambooth", NAME, "x", "y", "--layout", "zip"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: fiftyone-persam" in capsys.readouterr().err
