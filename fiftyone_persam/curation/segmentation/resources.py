"""What a run is carried out with: batches, threads, a cache, a back end. No result hangs on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import PersamError
from .. import checks
from ..progress import Progress
from ..runs import loading
from .execution import execute
from .fitting import learn
from .plan import Plan

if TYPE_CHECKING:
    from ...engine import Backend, EmbeddingCache


@dataclass(frozen=True)
class Resources:
    """Checked, for `segment` and `resume_run`, which say what each one is.

    Attributes:
        batch_size: photos encoded at once; by device if None.
        num_workers: threads that load photos, and as many that write; by machine if None.
        compile: whether to compile the image encoder; "auto" decides by the job.
        cache: where embeddings are looked up and kept.
        backend: where the work is done.
        progress: a progress bar, or a function.
    """

    batch_size: int | None
    num_workers: int | None
    compile: Any
    cache: EmbeddingCache | None
    backend: Backend | str | None
    progress: Progress

    @classmethod
    def checked(
        cls,
        batch_size: Any,
        num_workers: Any,
        compile: Any,
        cache: Any,
        backend: Any,
        progress: Any,
    ) -> Resources:
        """What the arguments of the same names mean; see `segment`.

        Raises:
            PersamError: one of them is wrong, or the back end cannot use the cache.
        """
        batch_size, num_workers = checks.as_plain(batch_size), checks.as_plain(num_workers)
        checks.check_count("batch_size", batch_size)
        checks.check_count("num_workers", num_workers)
        checks.check_switch("compile", compile)
        checks.check_progress(progress)
        embeddings = choose_cache(cache)
        checks.check_backend(backend, embeddings)
        return cls(batch_size, num_workers, compile, embeddings, backend, progress)

    def carry_out(self, plan: Plan) -> loading.Run:
        """Learn the objects of a plan, and segment its photos."""
        from ...engine import Job, choose_backend
        from ...sam.execution import for_job

        plan = learn(plan, self.cache)
        job = Job(
            tasks=plan.tasks,
            sam=for_job(plan.sam, self.compile, len(plan.tasks)),
            predictors=plan.predictors,
            output=plan.output,
            batch_size=self.batch_size,
            workers=self.num_workers,
            cache=self.cache,
            labelled=plan.labelled,
        )
        return execute(plan, job, choose_backend(self.backend, self.cache), self.progress)


def choose_cache(cache: Any) -> EmbeddingCache | None:
    """The cache that a ``cache`` argument means; see `segment`."""
    from ...engine import DiskCache, EmbeddingCache

    if cache is None or cache is False:
        return None
    if cache is True:
        return DiskCache()
    if isinstance(cache, (str, os.PathLike)) and str(cache):
        return DiskCache(cache)
    if isinstance(cache, EmbeddingCache):
        return cache
    raise PersamError(f"cache {cache!r} is not a cache: give True, a folder, or a DiskCache")
