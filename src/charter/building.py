"""The building: the order of the ground's floors, the rooms, and the parts of the service wing, written once.

The structure test, the runner and the documentation read this file. A floor imports only floors before it; a room of
the lab (`rooms/`) imports only the ground. The wing `service/` is what runs until it is stopped: the lab never imports
it, and its parts import the ground and what `SERVICE` names; their commands also `runner`. `terminal` says how things
look on a screen, and stands on the ground alone, as `runner` does, which alone loads rooms for a recipe. `cli` is above
all; it and every `*commands.py` import inside a function what takes long to load. In `interop` other people's
frameworks find our models. Nothing imports it, so that their packages are needed by those who call them.
"""

FLOORS = (
    "artifact",
    "settings",
    "measure",
    "text",
    "constitution",
    "model",
    "learn",
    "generate",
    "forms",
    "judge",
    "moderation",
    "sandbox",
)

SERVICE: dict[str, tuple[str, ...]] = {
    "web": (),
    "accounts": ("web",),
    "people": ("web",),
    "arena": ("web", "people"),
    "review": ("web", "people"),
    "feedback_export": ("web", "accounts"),
    "api": ("web", "accounts"),
}

ROOMS = {
    "corpus": "charter.rooms.corpus",
    "pretrain": "charter.rooms.pretrain",
    "scaling": "charter.rooms.scaling",
    "finetune": "charter.rooms.finetune",
    "debias": "charter.rooms.debias",
    "prompts": "charter.rooms.prompts",
    "critique": "charter.rooms.critique",
    "feedback": "charter.rooms.feedback",
    "select": "charter.rooms.select",
    "arena": "charter.service.arena",
    "preference": "charter.rooms.preference",
    "rating": "charter.rooms.rating",
    "dpo": "charter.rooms.dpo",
    "rl": "charter.rooms.rl",
    "merge": "charter.rooms.merge",
    "evaluate": "charter.rooms.evaluate",
    "benchmark": "charter.rooms.benchmark",
    "review": "charter.service.review",
    "card": "charter.rooms.card",
    "feedback_export": "charter.service.feedback_export",
}

ABOVE = ("terminal", "runner", "cli", "interop")
