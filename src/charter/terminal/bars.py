"""Progress on stderr: bars with the time left on a terminal, plain lines every 15 seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from charter.ground.artifact import progress as protocol
from charter.ground.artifact.progress import LEFT_IN_RUN

EVERY_SECONDS = 15.0
_UNITS = {"rate": " tokens/s"}


def make_progress() -> "RichProgress | PlainProgress":
    """Bars if stderr is a terminal, else lines."""
    console = Console(stderr=True)
    return RichProgress(console) if console.is_terminal else PlainProgress()


def spell(values: dict[str, object]) -> str:
    """'loss 1.234  rate 98.76 tokens/s': the values beside a bar."""
    return "  ".join(
        f"{k} {v:.4g}{_UNITS.get(k, '')}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()
    )


class _Clock(ProgressColumn):
    """Time spent, and while there is something to do the time left: in the run, or of the bar if that isn't known."""

    max_refresh = 0.5

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        spent = clock(task.elapsed or 0.0)
        if task.finished or task.stop_time is not None:
            return Text(spent, style="cyan")
        bar_left = None if task.time_remaining is None else clock(task.time_remaining)
        return Text(f"{spent}{spell_left(task.fields['run'], bar_left)}", style="cyan")


class _Values(ProgressColumn):
    """The values beside a bar: on a narrow terminal only these are cut."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=False))

    def render(self, task: Task) -> Text:
        return Text(str(task.fields["shown"]), style="dim", no_wrap=True, overflow="ellipsis")


class RichBar:
    """One row of the live display."""

    def __init__(self, display: Progress, task: TaskID) -> None:
        self._display = display
        self._task = task

    def advance(self, n: int = 1, **shown: object) -> None:
        """Adds n; the values stand at the end of the row, the time left in the run beside the clock."""
        run = shown.pop(LEFT_IN_RUN, None)
        if run is not None:
            self._display.update(self._task, run=run)
        if shown:
            self._display.update(self._task, shown=spell(shown))
        self._display.update(self._task, advance=n)


class RichProgress:
    """A live display that is there while any bar is open."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._display: Progress | None = None
        self._open = 0

    def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[protocol.Bar]:
        """Description, bar, done of total, time spent and left, and the last shown values while it is open."""
        return self._bar(description, total, done)

    @contextmanager
    def _bar(self, description: str, total: int, done: int) -> Iterator[protocol.Bar]:
        if self._display is None:
            self._display = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=12),
                MofNCompleteColumn(),
                _Clock(),
                _Values(),
                console=self._console,
            )
            self._display.start()
        display, self._open = self._display, self._open + 1
        task = display.add_task(description, total=total, completed=done, shown="", run=None)
        try:
            yield RichBar(display, task)
        finally:
            display.stop_task(task)
            display.update(task, shown="")
            self._open -= 1
            if self._open == 0:
                display.stop()
                self._display = None
            else:  # finished bars go above open ones
                self._console.print(display.make_tasks_table([display.tasks[display.task_ids.index(task)]]))
                display.remove_task(task)

    def stop(self) -> None:
        """Leaves the terminal as it was; for when nobody waits for the open bars any more."""
        if self._display is not None:
            self._display.stop()

    def note(self, text: str) -> None:
        """One line above the bars."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class PlainBar:
    """Prints its progress every 15 seconds, and its last line once, when it is closed."""

    def __init__(self, description: str, total: int, done: int) -> None:
        self._description = description
        self._total = total
        self._first = self._done = done
        self._began = self._said = time.monotonic()
        self._shown: dict[str, object] = {}
        self._run: object = None

    def advance(self, n: int = 1, **shown: object) -> None:
        """Adds n, and prints a line if the last is old enough and this is not the end."""
        self._done += n
        self._run = shown.pop(LEFT_IN_RUN, self._run)
        self._shown = shown or self._shown
        now = time.monotonic()
        if now - self._said >= EVERY_SECONDS and self._done < self._total:
            self._said = now
            print(self.line(now), file=sys.stderr, flush=True)

    def line(self, now: float, last: bool = False) -> str:
        """Description, done of total, time spent, the values, and the time left unless it is the last line."""
        spent = now - self._began
        done_here = self._done - self._first
        remaining = self._total - self._done
        bar_left = clock(spent / done_here * remaining) if done_here > 0 and remaining > 0 else None
        left = "" if last else spell_left(self._run, bar_left)
        values = f"  {spell(self._shown)}" if self._shown else ""
        return f"{self._description}: {self._done}/{self._total}, {clock(spent)}{left}{values}"


class PlainProgress:
    """Lines for logs and pipes."""

    def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[protocol.Bar]:
        """A bar that prints lines."""
        return self._bar(description, total, done)

    @contextmanager
    def _bar(self, description: str, total: int, done: int) -> Iterator[protocol.Bar]:
        bar = PlainBar(description, total, done)
        yield bar
        print(bar.line(time.monotonic(), last=True), file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Lines leave nothing to put right."""

    def note(self, text: str) -> None:
        """One line."""
        print(text, file=sys.stderr, flush=True)


def spell_left(run: object, bar_left: str | None) -> str:
    """', run: 12 minutes left', else ', 3:11 left' of the bar, else nothing: never two times at once."""
    if run is not None:
        return f", run: {run} left"
    return "" if bar_left is None else f", {bar_left} left"


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    total = int(seconds)
    hours, minutes = total // 3600, total % 3600 // 60
    return f"{hours}:{minutes:02d}:{total % 60:02d}" if hours else f"{minutes}:{total % 60:02d}"
