from __future__ import annotations

from pathlib import Path

import fiftyone.plugins.core as fop
import pytest

import fiftyone_persam as fp
from fiftyone_persam.cli.plugin import FILES, NAME, install_plugin, plugin_source


def test_the_source_is_a_whole_plugin() -> None:
    source = plugin_source()
    assert (source / "fiftyone.yml").is_file() and (source / "operators/__init__.py").is_file()


@pytest.mark.parametrize("copy", [False, True])
def test_fiftyone_finds_it(copy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = install_plugin(tmp_path, copy)
    assert target == tmp_path / "@fiftyone-persam" / "persam"
    monkeypatch.setattr("fiftyone.config.plugins_dir", str(tmp_path))
    (found,) = fop.list_plugins(enabled="all", builtin=False)
    assert found.name == NAME and Path(found.directory) == target
    entry = Path(found.directory, found.py_entry).resolve()
    assert entry.is_file() and entry.is_relative_to(target.resolve())


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_installing_again_replaces_it(first: bool, second: bool, tmp_path: Path) -> None:
    install_plugin(tmp_path, first)
    target = install_plugin(tmp_path, second)
    assert target.is_symlink() != second
    assert (plugin_source() / "operators" / "__init__.py").is_file()  # links are not followed
    for name in FILES:
        assert (target / name).exists()
    if second:
        assert sorted(path.name for path in target.iterdir()) == sorted(FILES)


def test_what_somebody_else_put_there_stays(tmp_path: Path) -> None:
    target = install_plugin(tmp_path, copy=True)
    (target / "mine.txt").write_text("mine")
    for copy in (False, True):
        with pytest.raises(fp.PersamError, match=r"mine\.txt"):
            install_plugin(tmp_path, copy)
    assert (target / "mine.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(fp.PersamError, match="cannot be put into"):
        install_plugin(tmp_path / "file")
