"""The building: the order of the ground's floors, the rooms, and the parts of the service wing, written once.

The structure test, the runner and the documentation read this file. A floor imports only floors before it; a room of
the lab (`rooms/`) imports only the ground. The wing `service/` is what runs until it is stopped: the lab never imports
it, and its parts import the ground and what `SERVICE` names; their commands also `runner`. `terminal` says how things
look on a screen, and stands on the ground alone, as `runner` does, which alone loads rooms for a recipe. `library` is
what programs and notebooks call: `import charter` finds its names, and commands call it too. `cli` is above all. Both
and every `*commands.py` import inside a function what takes long to load. In `interop` other people's frameworks find
our models. Nothing imports it, so that their packages are needed by those who call them.
"""

from typing import NamedTuple

FLOORS = {
    "artifact": "kinds, manifest, atomic writing, lineage, a room's workspace, the one error class",
    "settings": "recipes, overrides, roles, seeds, device and precision, references and their digests",
    "measure": "tables of clusters, intervals, paired differences, each metric as a pure function, plots",
    "text": "tokenizer, dialogues, comparisons, votes, files of rows, chat template and loss masks",
    "attack": "mutators: a request in the dress of twenty families, seeded, with inverses, and chains of them",
    "findings": "what outside red teams found: form, log, severity, the way to a mitigation and its re-test",
    "constitution": "principles as data, and the words of every request to a critic or labeller",
    "model": "shape, layouts, attention, the decoder, cache, adapters, heads, checkpoints, GGUF",
    "learn": "losses, optimizer, schedule, one step and exact resume states, as functions",
    "generate": "sampling, the engine, the scorer, local and remote assistants",
    "forms": "structured output that always ends, by JSON schema, pattern, grammar, XML, YAML or table",
    "judge": "choices in both orders, best-of-n, fitness of graders, detectors of refusals and loops",
    "moderation": "acceptable use as data, classifiers, thresholds, the screen that comes to a verdict",
    "world": "a simulated world that commands change, and the audit's tasks in it with their predicates",
    "sandbox": "untrusted code contained, and programs judged from a second sandbox",
    "reports": "what card, gate and release read of reports: numbers, stages, changes, judges, sign-offs",
}


class Part(NamedTuple):
    """A part of the service wing: which other parts it imports, and what it owns."""

    below: tuple[str, ...]
    owns: str


SERVICE = {
    "web": Part(
        (), "database with migrations, tokens, forms, refusals, the thread that drives an engine, fair shares"
    ),
    "documents": Part((), "strangers' files as text, parsed in a sandbox; quotes looked up in them"),
    "tools": Part(
        ("documents",),
        "what a server runs for a model: arithmetic, search in documents and the web, read-only SQL",
    ),
    "accounts": Part(
        ("web",), "organisations, keys, limits, usage, batches; decisions, cases and the ladder"
    ),
    "people": Part(("web",), "what people are asked and what they gave, from tasks to reviews"),
    "arena": Part(
        ("web", "people"), "a room: votes between hidden models, and the pages where people give them"
    ),
    "review": Part(("web", "people"), "a room: verdicts on flagged replies"),
    "feedback_export": Part(
        ("web", "accounts"), "a room: what users said of a served model's replies, frozen"
    ),
    "chat": Part(
        ("web", "documents", "people"),
        "the pages where people talk with served models: conversations as trees, replies that survive a crash",
    ),
    "api": Part(
        ("web", "documents", "tools", "accounts", "people"),
        "Anthropic's API of 2023 and of today, OpenAI's shapes, and their pages",
    ),
}

ROOMS = {
    "corpus": "charter.rooms.corpus",
    "pretrain": "charter.rooms.pretrain",
    "scaling": "charter.rooms.scaling",
    "finetune": "charter.rooms.finetune",
    "debias": "charter.rooms.debias",
    "prompts": "charter.rooms.prompts",
    "intake": "charter.rooms.intake",
    "trajectories": "charter.rooms.trajectories",
    "critique": "charter.rooms.critique",
    "feedback": "charter.rooms.feedback",
    "select": "charter.rooms.select",
    "honesty": "charter.rooms.honesty",
    "arena": "charter.service.arena",
    "preference": "charter.rooms.preference",
    "rating": "charter.rooms.rating",
    "dpo": "charter.rooms.dpo",
    "rl": "charter.rooms.rl",
    "merge": "charter.rooms.merge",
    "behaviours": "charter.rooms.behaviours",
    "attack": "charter.rooms.attack",
    "audit": "charter.rooms.audit",
    "evaluate": "charter.rooms.evaluate",
    "judge": "charter.rooms.judge",
    "review": "charter.service.review",
    "card": "charter.rooms.card",
    "feedback_export": "charter.service.feedback_export",
}

ABOVE = {
    "terminal": "options, tables, bars and errors as commands show them",
    "release": "the gate, people's sign-offs, releases, and scores in the formats of others",
    "runner": "plan, run, resume, publish; it alone loads rooms",
    "library": "the Python API: load, plan, run, evaluate, compare, open",
    "cli": "the root command and the commands of the lab",
    "interop": "our models for lm-eval and Inspect",
}
