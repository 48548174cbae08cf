"""A run whose database is killed in the middle and comes back when its absence was noticed.

Run as a program, with a folder: it has a database of its own, since it kills it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pymongo import monitoring

from benchmarks import mongod


class Database:
    """A mongod that can be killed; it is started again after the first failed heartbeat."""

    def __init__(self, folder: Path, port: int) -> None:
        self.command = mongod.command(folder, port)
        self.deaths = 0
        self.returns = 0
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, preexec_fn=mongod.die_with_parent
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.deaths += 1


class Heartbeats(monitoring.ServerHeartbeatListener):
    def __init__(self, database: Database) -> None:
        self.database = database

    def started(self, event: Any) -> None:
        pass

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        if self.database.returns < self.database.deaths:
            self.database.returns += 1
            self.database.start()


def main(folder: Path) -> None:
    (folder / "database").mkdir()
    port = mongod.free_port()
    database = Database(folder / "database", port)
    monitoring.register(Heartbeats(database))  # before fiftyone connects
    os.environ["FIFTYONE_PRIVATE_DATABASE_PORT"] = str(port)

    import fiftyone as fo

    from fiftyone_persam.curation.segmentation import execution

    from . import jobs
    from .discs import make_photos

    dataset = fo.Dataset("survivor", persistent=True)
    dataset.add_samples(make_photos(folder, 12))
    # Photos are written at once: the last ones reach the database in the moment before it dies.
    execution.FLUSH_PHOTOS = 1

    def blow(done: int, total: int) -> None:
        if done >= 3 * (database.deaths + 1) and database.deaths < 2:
            database.kill()

    run = jobs.run_on(dataset, progress=blow)
    missing = [s.filename for s in dataset if s["x"] is None or s["x_score"] is None]
    found = {
        "deaths": database.deaths,
        "returns": database.returns,
        "state": run.state,
        "counts": run.counts,
        "missing": missing,
        "masks": sorted(path.name for path in run.masks_dir.iterdir()),
        "paths": sorted(Path(p).name for p in dataset.values("x.mask_path") if p),
    }
    database.process.terminate()
    database.process.wait()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
