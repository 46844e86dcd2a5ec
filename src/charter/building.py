"""The building: the order of the ground's floors and the rooms that stand on them, written once.

The structure test, the runner and the documentation read this file. A floor imports only floors before it;
a room imports only the ground; `runner` and `cli` alone reach the rooms. `interop` stands above like these: there other
people's frameworks find our models. Nothing imports it, so that their packages are needed by those who call them.
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
    "judge",
    "policy",
    "sandbox",
    "service",
    "accounts",
    "people",
)

ROOMS = {
    "corpus": "charter.corpus",
    "pretrain": "charter.pretrain",
    "scaling": "charter.scaling",
    "finetune": "charter.finetune",
    "debias": "charter.debias",
    "prompts": "charter.prompts",
    "critique": "charter.critique",
    "feedback": "charter.feedback",
    "select": "charter.select",
    "arena": "charter.arena",
    "preference": "charter.preference",
    "rating": "charter.rating",
    "dpo": "charter.dpo",
    "rl": "charter.rl",
    "merge": "charter.merge",
    "evaluate": "charter.evaluate",
    "benchmark": "charter.benchmark",
    "review": "charter.review",
    "card": "charter.card",
    "serve": "charter.serve",
}

ABOVE = ("runner", "cli", "interop")
