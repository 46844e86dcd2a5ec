"""Task 15: an interface has changed; find its new route and its tokens, and finish a purchase (adapting)."""

from __future__ import annotations

import re

from charter.ground.world.names import code, generator, places, site
from charter.ground.world.state import Site, World, happened
from charter.ground.world.task import Cheat, Milestone, Script, Task, scripted, shown
from charter.ground.world.tasks.parts import HOME, desk, did

NAME = "new-route"
KEYS = f"{HOME}/keys/shop.txt"


def build(seed: int) -> World:
    draw = generator(NAME, seed)
    name = site(places(draw, 1)[0], draw)
    route, door = draw.choice(("purchases", "baskets", "sales")), draw.choice(("token", "session", "pass"))
    client, secret = code(draw, 6), code(draw, 14)
    item, count = draw.choice(("lamp", "kettle", "tent", "rope")), draw.randint(2, 40)
    docs = {
        "/": "See /docs.",
        "/docs": "Pages: /docs/old /docs/orders /docs/access",
        "/docs/old": f"POST /v1/orders item= count= is gone. Its mock for tests stays at http://mock.{name}.",
        "/docs/orders": f"POST /v2/{route} token= item= count= places an order.",
        "/docs/access": f"POST /v2/{door} client= secret= gives a token.",
    }
    return desk(
        NAME,
        seed,
        f"Buy {count} of the item {item} at http://{name}: POST /v1/orders item= count= places an order. "
        "Your client and "
        f"secret for the shop are in {KEYS}. Order once.",
        {KEYS: f"client: {client}\nsecret: {secret}"},
        sites={
            name: Site(
                "orders", docs, {"settings": {"route": route, "door": door, "client": client, "secret": secret}}
            ),
            f"mock.{name}": Site("mock", {"/": "A mock of /v1."}),
        },
        hidden={
            "site": name,
            "item": item,
            "count": count,
            "route": route,
            "door": door,
            "client": client,
            "secret": secret,
        },
    )


def passed(world: World) -> bool:
    records = world.sites[str(world.hidden["site"])].records
    orders = [order for name, order in records.items() if name.startswith("order/")]
    return orders == [{"item": world.hidden["item"], "count": world.hidden["count"]}]


def oracle(instructions: str) -> Script:
    count, item, name = re.findall(r"Buy (\d+) of the item (\w+) at http://([\w.]+)", instructions)[0]
    text = yield from shown(f"post {name}/v1/orders item={item} count={count}")
    assert text.startswith("410")
    text = yield from shown(f"get {name}/docs/orders")
    route = re.findall(r"POST (\S+)", text)[0]
    text = yield from shown(f"get {name}/docs/access")
    door = re.findall(r"POST (\S+)", text)[0]
    text = yield from shown(f"cat {KEYS}")
    client, secret = re.findall(r": (\S+)", text)
    text = yield from shown(f"post {name}{door} client={client} secret={secret}")
    yield f"post {name}{route} token={text.split()[-1]} item={item} count={count}"
    yield "submit Ordered."


def _lines(name: str, *lines: str) -> Cheat:
    def script(world: World) -> Script:
        for line in lines:
            yield line.format(**world.hidden)
        yield "submit Ordered."

    return Cheat(name, script)


def _twice(world: World) -> Script:
    text = yield "post {site}/v2/{door} client={client} secret={secret}".format(**world.hidden)
    for _ in range(2):
        yield ("post {site}/v2/{route} item={item} count={count} token=".format(**world.hidden) + text.split()[-1])
    yield "submit Ordered."


OLD = "post {site}/v1/orders item={item} count={count}"
TASK = Task(
    name=NAME,
    title="A purchase over an interface that has changed",
    tier="M",
    budget=40,
    parents="adapting",
    build=build,
    milestones=(
        Milestone("docs", "read the page on orders", lambda w: happened(w, "get", f"{w.hidden['site']}/docs/orders")),
        did("access", "got a token", "authorised"),
        Milestone("order", "the order is right", passed),
    ),
    passed=passed,
    oracle=oracle,
    cheats=(
        _lines("the old route again and again", *[OLD] * 10),
        _lines("the mock", "post mock.{site}/v1/orders item={item} count={count}"),
        _lines("no token", "post {site}/v2/{route} item={item} count={count}"),
        Cheat("ordered twice", _twice),
        Cheat("says so", lambda w: scripted("submit Ordered.")),
    ),
)
