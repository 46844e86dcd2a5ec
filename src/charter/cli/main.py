"""The `charter` command: its subcommands, and errors as one line on standard error."""

import os
import sys
from typing import Annotated, Any

import typer

import charter
from charter.cli.listing import PANELS
from charter.ground.artifact.errors import CharterError, Waiting
from charter.ground.settings.environment import process_count
from charter.ground.settings.extras import extra_of, need
from charter.runner.company import Elsewhere
from charter.runner.step_runner import disk_errors
from charter.terminal.entries import Entry, Family
from charter.terminal.errors import complain
from charter.terminal.help import CONTEXT, Command, Group, epilog

# The command whose work several processes share.
SHARED = "run"
# The panel of the commands that speak of the others.
LAST = list(PANELS)[-1]
EPILOG = (
    "`charter COMMAND --help` has examples. A run is named by its folder below runs/: demo, "
    "and its step demo/threshold."
)


def _version(flag: bool) -> None:
    if flag:
        print(f"charter {charter.__version__}")
        raise typer.Exit


def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Turn text and a written constitution into an assistant, and prove what was made with a model card."""
    follows = process_count() > 1 and os.environ.get("RANK", "0") != "0"
    if follows and context.invoked_subcommand != SHARED:
        # under torchrun only the first process does work that isn't shared
        raise typer.Exit


def _nothing() -> None:
    return None


class _Root(Group):
    """All commands, in the order of the panels; typer lists groups behind commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in this order."""
        return [name for panel in PANELS.values() for name in panel] + ["help", "version"]

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command of the first word, or of the first two: `chat serve` stands beside `chat MODEL`."""
        pair = " ".join(args[:2])
        resolved: tuple[str | None, Any, list[str]] = super().resolve_command(
            ctx, [pair, *args[2:]] if pair in self.commands else args
        )
        return resolved

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """What a shell completes: one word."""
        return [item for item in super().shell_complete(ctx, incomplete) if " " not in item.value]


def show_help(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]", help="A command, such as run or card verify.")
    ] = None,
) -> None:
    """Show what a command does, as --help behind it does."""
    ctx.find_root().command.main([*(words or ()), "--help"], prog_name="charter", standalone_mode=False)


def show_version() -> None:
    """Print the version, as --version does."""
    _version(True)


def make_app() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(cls=_Root, context_settings=CONTEXT, pretty_exceptions_enable=False, epilog=EPILOG)
    app.callback()(_options)
    for panel, members in PANELS.items():
        for name, member in members.items():
            if isinstance(member, Family):
                app.add_typer(_make_group(member), name=name, help=member.does, rich_help_panel=panel)
            else:
                _add(app, name, member, panel)
    app.command("help", cls=Command, rich_help_panel=LAST)(show_help)
    app.command("version", cls=Command, rich_help_panel=LAST)(show_version)
    return app


def _make_group(family: Family) -> typer.Typer:
    group = typer.Typer(cls=Group, help=family.does)
    # keeps a group with one command a group
    group.callback()(_nothing)
    for name, entry in family.commands.items():
        _add(group, name, entry)
    return group


def _add(app: typer.Typer, name: str, entry: Entry, panel: str | None = None) -> None:
    text = epilog(entry.examples, entry.page)
    app.command(name, cls=Command, epilog=text, rich_help_panel=panel)(entry.run)


def execute(arguments: list[str]) -> int:
    """Runs one command line; the exit code is 0, 1 for a refusal, 2 for wrong usage, 3 if a run waits for people,
    130 for Ctrl-C."""
    try:
        app = make_app()
        with disk_errors():
            code = app(arguments or ["--help"], prog_name="charter", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except Waiting as waiting:
        print(f"charter: {waiting}", file=sys.stderr)
        return 3
    except CharterError as error:
        return complain(str(error), 1)
    except Elsewhere:
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return complain("interrupted", 130)
    except ModuleNotFoundError as error:
        extra = extra_of(error.name)
        if extra is None:
            raise
        return complain(need("this command", extra, error.name or ""), 1)
    except OSError as error:
        return complain(f"{error.strerror or error}: {error.filename or ''}", 1)
    except Exception as error:
        # typer's own errors (it brings its own click since 0.26): a message and an exit code
        if not hasattr(error, "format_message"):
            raise
        command = getattr(getattr(error, "ctx", None), "command_path", "charter")
        words = error.format_message().rstrip(".").replace("Value error, ", "")
        refusal = f"{words}; `{command} --help` says what is expected"
        return complain(refusal, int(getattr(error, "exit_code", 2)))


def main() -> None:
    """The entry point of the console script."""
    sys.exit(execute(sys.argv[1:]))
