"""Putting the FiftyOne plugin where FiftyOne looks for plugins."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..curation.checks import folder_path
from ..errors import PersamError

NAME = "@fiftyone-persam/persam"
FILES = ("fiftyone.yml", "operators")


def plugin_source() -> Path:
    """The folder with ``fiftyone.yml``: inside an installed package, or a checkout's root.

    Raises:
        PersamError: it is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_plugin", package.parent):
        if all((folder / name).exists() for name in FILES):
            return folder
    raise PersamError(f"the plugin's files are missing from {package}: install the package again")


def install_plugin(plugins_dir: str | os.PathLike[str] | None = None, copy: bool = False) -> Path:
    """Link the plugin into FiftyOne's plugins folder; safe to repeat.

    Args:
        plugins_dir: the folder; FiftyOne's own if None.
        copy: copy the files, for systems without symbolic links.

    Returns:
        Where the plugin is now.

    Raises:
        PersamError: something else is in its place, or the folder cannot be written.
    """
    import fiftyone as fo

    source = plugin_source()
    base = folder_path("plugins_dir", plugins_dir or fo.config.plugins_dir)
    target = base.joinpath(*NAME.split("/"))
    try:
        _clear(target)
        if not copy:
            # The folder as a whole: FiftyOne wants the files inside the plugin's real folder.
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source, target_is_directory=True)
        else:
            target.mkdir(parents=True)
            for name in FILES:  # only these: a checkout's root holds far more than the plugin
                if (source / name).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(source / name, target / name, ignore=ignored)
                else:
                    shutil.copyfile(source / name, target / name)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PersamError(
            f"the plugin cannot be put into {base} ({reason}): choose another folder"
        ) from error
    return target


def _clear(target: Path) -> None:
    """Remove what an earlier installation left, and nothing else."""
    if target.is_symlink():
        target.unlink()
        return
    if not target.exists():
        return
    strangers = [path.name for path in target.iterdir() if path.name not in (*FILES, "__pycache__")]
    if strangers:
        raise PersamError(
            f"{target} holds {strangers[0]!r}, which install-plugin has not put there: remove that "
            "folder, or go on with the plugin in it"
        )
    for name in FILES:
        path = target / name
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
    shutil.rmtree(target)
