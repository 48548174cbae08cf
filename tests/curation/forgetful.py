"""Operations whose database is killed in the middle, and forgets what it acknowledged just before.

Run as a program, with a folder and how many moments of each operation are tried: it has a database
of its own, since it kills it. Prints what was left as JSON: operation -> moment -> differences.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from pymongo import monitoring

from benchmarks import mongod

from .away import Database, Heartbeats

NAMES = (
    "overwrite",
    "adopt",
    "evaluate anew",
    "review",
    "promote",
    "export",
    "threshold",
    "rename",
    "delete",
)
WRITES = {"insert", "update", "delete", "findAndModify"}


class Killer(monitoring.CommandListener):
    """Kills the database when it has acknowledged the n-th write from now on."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.count = 0
        self.kills_at: int | None = None

    def started(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass

    def succeeded(self, event: Any) -> None:
        if event.command_name in WRITES:
            self.count += 1
            if self.count == self.kills_at:
                self.database.kill()


def main(folder: Path, moments: int) -> None:
    (folder / "database").mkdir()
    port = mongod.free_port()
    database = Database(folder / "database", port)
    killer = Killer(database)
    monitoring.register(Heartbeats(database))  # before fiftyone connects
    monitoring.register(killer)
    os.environ["FIFTYONE_PRIVATE_DATABASE_PORT"] = str(port)

    import fiftyone_persam as fp
    from fiftyone_persam.curation.database import make_durable, with_retries
    from fiftyone_persam.curation.fiftyone_api import database_process

    from .kill_operations import OPERATIONS
    from .world import World, differences

    found: dict[str, Any] = {"kills": 0, "left": {}}
    for name in NAMES:
        (folder / name).mkdir()
        world = World(folder / name)
        operation = OPERATIONS[name]
        operation.prepare(world.dataset, world.folder)
        world.keep()
        killer.count, killer.kills_at = 0, None
        operation.act(world.dataset, world.folder)
        writes, after = killer.count, world.picture()
        for n in sorted({1 + writes * i // moments for i in range(moments)}):
            world.put_back()
            make_durable()  # what the next kill may not take
            deaths = database.deaths
            killer.count, killer.kills_at = 0, n
            operation.act(world.dataset, world.folder)
            killer.kills_at = None
            with_retries(database_process)  # it may have died with the last of all writes
            found["kills"] += database.deaths - deaths
            fp.list_runs(world.dataset)  # as anybody does who comes next
            if faults := differences(world.picture(), after):
                found["left"].setdefault(name, {})[n] = faults[:5]
        world.close()
    database.process.terminate()
    database.process.wait()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
