"""How far a comparison is: a bar, or a line a job where the output is not a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from timecell.compare.jobs import Broken, Job, Scored
from timecell.compare.store import Store


class Board:
    """Counts finished jobs on stderr and names the best validation score so far, never a test score.

    Args:
        show: False prints nothing.
        store: where finished jobs are kept, for what is said on Ctrl-C.
    """

    def __init__(self, show: bool, store: Store | None) -> None:
        self._store = store
        self._console = Console(stderr=True, quiet=not show, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[best]}"),
            console=self._console,
            transient=True,
            disable=not (show and self._console.is_terminal),
        )
        self._leader: Scored | None = None
        self._best = ""

    def __enter__(self) -> Board:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._bar.stop()
        if kind is KeyboardInterrupt and self._store:
            text = f"Stopped. Finished jobs are kept in {self._store.folder}; the same call goes on from there."
            self._console.print(text, markup=False, soft_wrap=True)
        elif kind is KeyboardInterrupt:
            self._console.print("Stopped. Nothing is kept, since there was no folder for it (out).", markup=False)

    def begin(self, stage: str, plans: Mapping[str, Sequence[Job]]) -> None:
        """A new bar for all these jobs."""
        for done in self._bar.task_ids:
            self._bar.remove_task(done)
        jobs = sum(map(len, plans.values()))
        self._task = self._bar.add_task(stage, total=jobs, best=self._best)
        self._stage, self._done, self._jobs = stage, 0, jobs

    def trial(self, job: Job, outcome: Scored | Broken) -> None:
        """A job scored on the validation part is done."""
        if isinstance(outcome, Scored) and (self._leader is None or outcome.beats(self._leader)):
            self._leader = outcome
            self._best = f"best so far: {job.system.card.slug}, {outcome.primary} {outcome.value:.4g} on validation"
        self.finished(job, outcome)

    def finished(self, job: Job, outcome: Scored | Broken) -> None:
        """A job is done."""
        self._done += 1
        if isinstance(outcome, Broken):
            self._console.print(f"{job.name} failed: {outcome.error}", style="red", markup=False)
        self._bar.update(self._task, completed=self._done, best=self._best)
        if not self._console.is_terminal:
            line = f"{self._stage} {self._done}/{self._jobs}: {job.name}  {self._best}"
            self._console.print(line, markup=False, soft_wrap=True)
