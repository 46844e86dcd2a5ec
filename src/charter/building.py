"""The lab: the order of the ground's floors, the rooms, and what stands above them, written once.

The structure test, the runner and the documentation read this file. A floor imports only floors before it; a room
imports only the ground. `terminal` says how things look on a screen, and stands on the ground alone, as `runner` does,
which alone loads rooms for a recipe. `library` is what programs and notebooks call: `import charter` finds its names,
and commands call it too. `cli` is above all, and imports inside a function what takes long to load. In `interop` other
people's frameworks find our models. Nothing imports it, so that their packages are needed by those who call them.

The service is a package of its own, `charter_service`, with a `building.py` of its own. The lab never imports it, and
finds its rooms and commands by entry points.
"""

from charter.ground.settings.extras import ROOMS as ADDED
from charter.ground.settings.extras import added

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
    "judge": "choices in both orders, best-of-n, fitness of graders, detectors of refusals and loops",
    "moderation": "acceptable use as data, classifiers, thresholds, the screen that comes to a verdict",
    "world": "a simulated world that commands change, and the audit's tasks in it with their predicates",
    "sandbox": "untrusted code contained, and programs judged from a second sandbox",
    "documents": "strangers' files as text, parsed in a sandbox; quotes looked up in them",
    "reports": "what card, gate and release read of reports: numbers, stages, changes, judges, sign-offs",
}


# The lab's own, then those that installed packages add; the service adds `arena`, `review` and `feedback_export`.
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
    "principles": "charter.rooms.principles",
    "labeller": "charter.rooms.labeller",
    "feedback": "charter.rooms.feedback",
    "select": "charter.rooms.select",
    "honesty": "charter.rooms.honesty",
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
    "card": "charter.rooms.card",
    **{point.name: point.value for point in added(ADDED)},
}

ABOVE = {
    "terminal": "options, tables, bars and errors as commands show them",
    "release": "the gate, people's sign-offs, releases, and scores in the formats of others",
    "runner": "plan, run, resume, publish; it alone loads rooms",
    "library": "the Python API: load, plan, run, evaluate, compare, open",
    "cli": "the root command and the commands of the lab",
    "interop": "our models for lm-eval and Inspect",
}
