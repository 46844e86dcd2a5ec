"""Prompts that say nothing take no weight off an account."""

from __future__ import annotations

from pathlib import Path

import httpx
from lobby import MODEL, Watch, configuration, open_hall

from charter.ground.moderation.policy import shipped_policy
from charter.ground.moderation.screen import Screen
from charter_service.accounts.decisions import Entry
from charter_service.accounts.tables import DECISIONS
from charter_service.web.database import reading


def test_blank_prompts_lift_nobody(tmp_path: Path) -> None:
    steps = {"warned": 2, "enhanced": 4, "throttled": 900, "suspended": 900}
    config = configuration(policy={"state": "on"}, ladder={**steps, "users": steps})
    with open_hall(tmp_path, config, Screen(shipped_policy(), [Watch("zinc")])) as hall:  # type: ignore[list-item]
        secret = hall.key("acme", ("messages",))

        def ask(prompt: str | list[str], user: str = "bob") -> httpx.Response:
            body = {"model": MODEL, "prompt": prompt, "echo": True, "max_tokens": 0, "user": user}
            headers = {"authorization": f"Bearer {secret}"}
            return httpx.post(f"{hall.url}/v1/completions", json=body, headers=headers, timeout=60)

        owner = hall.organisations["acme"]
        for number in range(20):  # a prompt counts once a day: each is another
            assert ask(f"zinc {number}").status_code == 200
            if hall.service.conduct.standing(owner).level == "enhanced":
                break
        for _ in range(4):
            assert ask([" "] * 256).status_code == 200
        hall.service.conduct.log.flush()
        hall.service.meter.flush()
        ask("more zinc")
        assert hall.service.conduct.standing(owner).level == "enhanced"
        with reading(hall.service.database) as c:
            columns = [DECISIONS.c[name] for name in Entry.__dataclass_fields__]
            said = [Entry(*row).said for row in c.execute(DECISIONS.select().with_only_columns(*columns))]
        assert said.count("not checked") == 1024 and "allow" not in said
