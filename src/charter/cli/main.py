"""The `charter` command: its subcommands, and errors as one line on standard error."""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

import charter
from charter.cli import chat, check, doctor, elo, evaluate, export, pipeline, policy, release, review, start
from charter.ground.artifact.errors import CharterError, Waiting
from charter.ground.settings.environment import process_count
from charter.ground.settings.extras import extra_of, need
from charter.runner.company import Elsewhere
from charter.runner.step_runner import disk_errors
from charter.service.accounts import conduct_commands as conduct
from charter.service.accounts import key_commands as keys
from charter.service.api import commands as serve
from charter.service.arena import commands as arena
from charter.service.arena import data_commands as arena_data
from charter.terminal.errors import complain

# The command whose work several processes share.
SHARED = "run"


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


def make_app() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_options)
    app.command("init")(start.init)
    app.command("plan")(pipeline.plan)
    app.command("run")(pipeline.run)
    app.command("show")(pipeline.show)
    app.command("chat")(chat.chat)
    app.command("eval")(evaluate.evaluate)
    app.command("compare")(release.compare)
    app.command("gate")(release.gate)
    app.command("elo")(elo.elo)
    app.command("review")(review.review)
    app.command("serve")(serve.serve)
    app.command("gc")(pipeline.gc)
    app.command("doctor")(doctor.doctor)
    groups: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
        "constitution": ("Constitutions.", {"check": check.constitution_check}),
        "data": (
            "Files of rows.",
            {"check": check.data_check, "import": check.data_import, "export": check.data_export},
        ),
        "arena": (
            "Let people compare replies of unnamed models.",
            {
                "init": arena.init,
                "serve": arena.serve,
                "invite": arena.invite,
                "status": arena_data.status,
                "export": arena_data.export,
                "person": arena_data.person,
                "simulate": arena_data.simulate,
            },
        ),
        "conduct": ("Decisions of the acceptable-use policy, and accounts' standing.", conduct.COMMANDS),
        "keys": (
            "Who may use a service, how much, and what they used.",
            {
                "create": keys.create,
                "list": keys.list_keys,
                "revoke": keys.revoke,
                "limits": keys.limits,
                "usage": keys.usage,
            },
        ),
        "policy": (
            "Acceptable use.",
            {"show": policy.show, "check": policy.check, "try": policy.try_text},
        ),
        "card": ("Model cards.", {"verify": check.card_verify, "export": export.card_export}),
    }
    for group, (text, commands) in groups.items():
        inner = typer.Typer(help=text)
        # keeps a group with one command a group
        inner.callback()(_nothing)
        for name, command in commands.items():
            inner.command(name)(command)
        app.add_typer(inner, name=group, help=text)
    return app


def execute(arguments: list[str]) -> int:
    """Runs one command line; the exit code is 0, 1 for a refusal, 2 for wrong usage, 3 if a run waits for people,
    130 for Ctrl-C."""
    app = make_app()
    try:
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
        where = getattr(getattr(error, "ctx", None), "command_path", "charter")
        words = error.format_message().rstrip(".").replace("Value error, ", "")
        refusal = f"{words}; `{where} --help` says what is expected"
        return complain(refusal, int(getattr(error, "exit_code", 2)))


def main() -> None:
    """The entry point of the console script."""
    sys.exit(execute(sys.argv[1:]))
