"""Bad albums, archives, exports to PerSeg's layout, plugin folders."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo

import fiftyone_persam as fp
from fiftyone_persam.cli.plugin import install_plugin
from fiftyone_persam.curation.handover.importing import import_perseg
from fiftyone_persam.datasets.perseg_zoo import prepare_perseg
from fiftyone_persam.errors import DatasetLayoutError, PersamError, PhotoError

from .cases import Bad, refused, table
from .world import World


def album(
    title: str,
    folder: str | None,
    says: str,
    error: type[Exception] = PersamError,
    name: Any = "fresh",
    **options: Any,
) -> Bad:
    def call(w: World) -> Any:
        return import_perseg(w.path(folder) if folder else folder, name, progress=False, **options)

    return Bad(f"import-{title}", call, says, error)


LAYOUT = DatasetLayoutError

IMPORTS = (
    album("none", None, "folder None is not a folder: give"),
    album("empty", "", "folder '' is not a folder: give"),
    album("missing", "nowhere", "nowhere is not a folder: pass", LAYOUT),
    album("file", "text.png", "text.png is not a folder: pass", LAYOUT),
    album("no-images", "full", "has no folder Images/: PerSeg's layout is", LAYOUT),
    album("no-annotations", "half", "has no folder Annotations/: PerSeg's layout is", LAYOUT),
    album("photos-folder", "photos", "has no folder Images/: ", LAYOUT),
    album("missing-mask", "unmasked", "01.jpg has no mask: Annotations/cat/01.png", LAYOUT),
    album("mask-of-other-size", "uneven", "9 x 9 pixels but its photo is 64 x 48: make", LAYOUT),
    album("broken-photo", "broken", "cannot read photo .*01.jpg: ", PhotoError),
    album("empty-reference", "void", "00.png is empty but its photo is the reference .*: name",
          LAYOUT),
    album("two-of-one-name", "twins", "have one name: rename one", LAYOUT),
    album("object-unknown", "sound", "no object 'dog': it has cat", LAYOUT, objects=["dog"]),
    album("object-number", "sound", "no object 3: it has cat", LAYOUT, objects=[3]),
    album("objects-number", "sound", "objects 3 .*: give", objects=3),
    album("object-upwards", "sound", "no object '../cat': it has", LAYOUT, objects=["../cat"]),
    album("reference-unknown", "sound", "no photo '07' to be the reference: it has 00, 01",
          LAYOUT, reference="07"),
    album("reference-of-unknown", "sound", "no object 'dog': it has", LAYOUT,
          reference={"dog": "00"}),
    album("reference-number", "sound", "reference 3 .*: give", reference=3),
    album("on-error", "sound", "on_error 'ignore' is not known: give 'raise'",
          on_error="ignore"),
    album("masks", "sound", "masks 's3' is not known: give 'files'", masks="s3"),
    album("max-samples-zero", "sound", "max_samples 0 .*: give", max_samples=0),
    album("max-samples-bool", "sound", "max_samples True .*: give", max_samples=True),
    album("max-samples-text", "sound", "max_samples '9' .*: give", max_samples="9"),
    album("option-unknown", "sound", "'speed' .*: its options are", speed=3),
    album("mask-dir-number", "sound", "mask_dir 3 is not a folder: give", mask_dir=3),
    *(
        album(f"gt-field-{title}", "sound", "gt_field .*: ", gt_field=field)
        for title, field in (
            ("empty", ""), ("dot", "a.b"), ("private", "_a"), ("number", 3),
            ("builtin", "filepath"),
            ("object", "object"), ("role", "role"), ("dollar", "$a"),
        )
    ),
    album("name-none", "sound", "name None .*: give", name=None),
    album("name-empty", "sound", "name '' .*: give", name=""),
    album("name-spaces", "sound", "name ' +' .*: give", name="  "),
    album("name-number", "sound", "name 3 .*: give", name=3),
    album("name-taken", "sound", "a dataset 'bad-calls' already: choose", name="bad-calls"),
    album("name-same-slug", "sound", "a dataset 'bad-calls' already: choose", name="bad calls"),
    album("name-of-signs", "sound", "name '\\?\\?' .*: choose", name="??"),
)  # fmt: skip


def export(title: str, says: str, error: type[Exception] = PersamError, **changes: Any) -> Bad:
    def call(w: World) -> Any:
        given: dict[str, Any] = {"label_field": "ground_truth", "export_dir": "out", **changes}
        given["export_dir"] = given["export_dir"] and w.path(given["export_dir"])
        return w.photos.export(dataset_type=fp.PerSegDataset, progress=False, **given)

    return Bad(f"perseg-{title}", call, says, error)


EXPORTS = (
    export("media", "export_media 'move' is not known: give", export_media="move"),
    export("mask-value", "mask_value 'red' .*: give", mask_value="red"),
    export("object-field-unknown", "no field 'objekt': ", object_field="objekt"),
    export("role-field-unknown", "no field 'rolle': ", role_field="rolle"),
    export("nothing-to-export", "mask.*: all masks are empty", LAYOUT, label_field="no_boxes"),
    export("mask-unreadable", "cannot read mask .*nowhere.png.*: ", label_field="lost_mask"),
    export("mask-of-other-size", "mask of .* is 20 x 48 pixels .*: make",
           label_field="other_size"),
    export("no-mask", "Segmentation of .* has no mask: export", label_field="no_mask"),
    export("to-file", "text.png is a file: ", LAYOUT, export_dir="text.png"),
)  # fmt: skip


def zipped(*names: str) -> Callable[[World], Path]:
    """An archive beside the world, with these members."""

    def make(w: World) -> Path:
        path = _outside(w, "album.zip")
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"picture")
        return path

    return make


def tarred(kind: bytes, target: str) -> Callable[[World], Path]:
    def make(w: World) -> Path:
        path = _outside(w, "album.tar")
        with tarfile.open(path, "w") as archive:
            link = tarfile.TarInfo("Images/cat/00.jpg")
            link.type, link.linkname = kind, target
            archive.addfile(link, io.BytesIO())
        return path

    return make


def _outside(w: World, name: str) -> Path:
    folder = w.folder.parent / "archives"
    folder.mkdir(exist_ok=True)
    return folder / name


def archive(title: str, source: Callable[[World], Any], says: str, **options: Any) -> Bad:
    def call(w: World) -> Any:
        return prepare_perseg(w.path("hollow"), source(w), **options)

    return Bad(f"archive-{title}", call, says, DatasetLayoutError)


ALBUM = ("Images/cat/00.jpg", "Annotations/cat/00.png")

ARCHIVES = (
    archive("missing", lambda w: w.path("nowhere.zip"), "nowhere.zip is not a file: pass"),
    archive("text", lambda w: w.path("text.png"), "neither a zip nor a tar archive"),
    archive("empty", lambda w: w.path("zero.jpg"), "neither a zip nor a tar archive"),
    archive("no-album", zipped("notes/a.txt"), "holds no album: it needs Images/"),
    archive("upwards", zipped(*ALBUM, "../../x.jpg"), "'../../x.jpg' would leave the folder"),
    archive("absolute", zipped(*ALBUM, "/tmp/x.jpg"), "'/tmp/x.jpg' would leave the folder"),
    archive("link", tarred(tarfile.SYMTYPE, "/etc/passwd"), "is a link, not a file"),
    archive("hard-link", tarred(tarfile.LNKTYPE, "../x"), "is a link, not a file"),
    archive("pipe", tarred(tarfile.FIFOTYPE, ""), "is a device, not a file"),
    archive("other-hash", zipped(*ALBUM), "has sha256 .*, not 00: get it again", sha256="00"),
    archive("hash-number", zipped(*ALBUM), "sha256 3 .*: give", sha256=3),
    archive("hash-of-folder", lambda w: w.path("sound"), "is a folder: sha256 is for an archive",
            sha256="00"),
    archive("source-number", lambda w: 3, "source 3 .*: give"),
    archive("folder-of-no-album", lambda w: w.path("full"), "has no folder Images/: "),
    Bad("plugin-below-file", lambda w: install_plugin(w.path("text.png")),
        "cannot be put into .*text.png.*: "),
    Bad("plugin-over-strangers", lambda w: install_plugin(_strangers(w)),
        "holds 'diary.txt', which install-plugin has not put there: remove"),
    Bad("plugin-number", lambda w: install_plugin(3), "plugins_dir 3 is not a folder: give"),
)  # fmt: skip


def _strangers(w: World) -> Path:
    folder = _outside(w, "plugins")
    own = folder / "@fiftyone-persam" / "persam"
    own.mkdir(parents=True, exist_ok=True)
    (own / "diary.txt").touch()
    return folder


@table(*IMPORTS)
def test_imports(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*EXPORTS)
def test_exports(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*ARCHIVES)
def test_archives_and_folders(bad: Bad, world: World) -> None:
    refused(bad, world)
    assert not list(Path(world.path("hollow")).iterdir())


def test_the_archives_would_do_but_for_their_faults(world: World) -> None:
    """The album that the bad archives are made of is unpacked where it has no fault."""
    folder = _outside(world, "unpacked")
    assert prepare_perseg(folder, zipped(*ALBUM)(world)) == 1
    assert sorted(p.name for p in folder.rglob("*.*g")) == ["00.jpg", "00.png"]
    assert fo.dataset_exists(world.photos.name)
