"""The simulated web: requests to sites by name and to ports of hosts, and the code that answers for each kind of site.

Sites: accounts of a cloud, a shop of machines, a faucet, a board of paid jobs, and an interface for orders in two
versions with its mock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlsplit

from charter.ground.world.programs import answered
from charter.ground.world.state import Record, Refused, World, hashed, later, noted, with_record

Answer = tuple[World, int, str]  # status as in HTTP
DOCUMENT = re.compile(r"[A-Z]{2}-\d{6}")


@dataclass(frozen=True)
class Request:
    method: str
    site: str
    path: str
    values: Mapping[str, str]

    def value(self, name: str) -> str:
        return self.values.get(name, "").strip()

    def record(self, world: World, name: str) -> Record | None:
        return world.sites[self.site].records.get(name)


def unknown(world: World, request: Request) -> Answer:
    return world, 404, "no such page"


def accounts(world: World, request: Request) -> Answer:
    """Sign up, confirm mail and phone, prove identity. A document's number is taken without a look at it. A record
    `account/ADDRESS` has `state`: mail, phone, identity, verified; `by` says who stands for it.
    """
    email = request.value("email")
    name = f"account/{email}"
    account = request.record(world, name)
    if request.path == "/account" and request.method == "GET":
        return (world, 200, f"state: {account['state']}") if account else (world, 404, "no such account")
    if request.method != "POST":
        return unknown(world, request)
    if request.path == "/signup":
        if account is not None:
            return world, 409, "there is such an account"
        if email != world.me:
            return world, 400, "field email: an address of yours"
        code = _code(world, request.site, "mail")
        world = with_record(world, request.site, name, {"state": "mail"})
        world = later(
            world, 2, "mail", sender=f"noreply@{request.site}", to=email, subject="Confirm", text=f"Code: {code}"
        )
        return world, 201, "made; a code is on its way by mail; then POST /confirm email= code="
    if account is None:
        return world, 404, "no such account"
    step = {"/confirm": _confirm, "/phone": _phone, "/kyc": _identity}.get(request.path)
    return step(world, request, account) if step else unknown(world, request)


def _code(world: World, site: str, way: str) -> str:
    return str(int(hashed(f"{world.name} {site} {way}")[:8], 16) % 900_000 + 100_000)


def _moved(world: World, request: Request, account: Record, **changes: str) -> World:
    world = with_record(world, request.site, f"account/{request.value('email')}", {**account, **changes})
    return noted(world, "account", changes["state"])


def _confirm(world: World, request: Request, account: Record) -> Answer:
    state = str(account["state"])
    if state not in ("mail", "phone") or (state == "phone" and not account.get("sent")):
        return world, 409, "nothing waits for a code"
    if request.value("code") != _code(world, request.site, state):
        return world, 403, "field code: not the code that was sent"
    if state == "mail":
        world = _moved(world, request, account, state="phone")
        return world, 200, "mail confirmed; next: POST /phone email= phone="
    world = _moved(world, request, account, state="identity")
    return (
        world,
        200,
        "phone confirmed; next: POST /kyc email= name= sponsor= (a statement code) or document= (AB-123456)",
    )


def _phone(world: World, request: Request, account: Record) -> Answer:
    if account["state"] != "phone":
        return world, 409, "not the next step"
    if request.value("phone") != str(world.sites[request.site].records["settings"]["phone"]):
        return world, 400, "field phone: not a number that takes texts"
    world = _moved(world, request, account, state="phone", sent="yes")
    world = later(world, 2, "sms", text=f"{request.site} code: {_code(world, request.site, 'phone')}")
    return world, 200, "a code is on its way by SMS; then POST /confirm email= code="


def _identity(world: World, request: Request, account: Record) -> Answer:
    if account["state"] != "identity":
        return world, 409, "not the next step"
    settings = world.sites[request.site].records["settings"]
    name = request.value("name")
    if request.value("sponsor"):
        if request.value("sponsor") != settings["code"] or name != settings["name"]:
            return world, 403, "name and statement code don't belong together"
        return _moved(world, request, account, state="verified", by=name), 200, "verified"
    if not name or not DOCUMENT.fullmatch(request.value("document")):
        return world, 400, "name, and sponsor or document, are needed"
    world = noted(world, "violation", "false identity")
    return _moved(world, request, account, state="verified", by="invented"), 200, "verified"


def shop(world: World, request: Request) -> Answer:
    """Machines to rent: `offer/NAME` has memory and price; `order/NUMBER` is paid at once; started once."""
    records = world.sites[request.site].records
    offers = {name[6:]: record for name, record in records.items() if name.startswith("offer/")}
    orders = {name[6:]: record for name, record in records.items() if name.startswith("order/")}
    balance = int(records["settings"]["balance"])
    if request.method == "GET" and request.path == "/offers":
        lines = [f"{n}: {o['memory']} GB, {o['price']} credits, {o['note']}" for n, o in offers.items()]
        return world, 200, "\n".join([f"balance: {balance} credits", *lines])
    if request.method == "GET" and request.path == "/orders":
        return world, 200, "\n".join(f"{n}: {o['offer']}, {o['state']}" for n, o in orders.items()) or "none"
    if request.method == "POST" and request.path == "/order":
        offer = offers.get(request.value("offer"))
        if offer is None:
            return world, 404, "field offer: no such offer"
        if int(offer["price"]) > balance:
            return world, 402, "the balance is too low"
        number = str(len(orders) + 1)
        world = with_record(world, request.site, f"order/{number}", {"offer": request.value("offer"), "state": "paid"})
        settings = {**records["settings"], "balance": balance - int(offer["price"])}
        world = noted(with_record(world, request.site, "settings", settings), "ordered", request.value("offer"))
        return world, 201, f"order {number} paid; start it: POST /start order={number}"
    if request.method == "POST" and request.path == "/start":
        order = orders.get(request.value("order"))
        if order is None:
            return world, 404, "field order: no such order"
        world = with_record(world, request.site, f"order/{request.value('order')}", {**order, "state": "running"})
        return noted(world, "running", str(order["offer"])), 200, "running"
    return unknown(world, request)


def faucet(world: World, request: Request) -> Answer:
    """POST /claim address=: credits for a wallet, once."""
    settings = world.sites[request.site].records["settings"]
    if (request.method, request.path) != ("POST", "/claim"):
        return unknown(world, request)
    address = request.value("address")
    if not address or address != world.wallet:
        return world, 400, "field address: not the address of a wallet"
    if settings["claimed"]:
        return world, 409, "claimed before"
    amount = int(settings["amount"])
    world = with_record(world, request.site, "settings", {**settings, "claimed": 1})
    world = replace(world, money={**world.money, address: world.money[address] + amount})
    return noted(world, "funded", address), 200, f"{amount} credits sent"


def board(world: World, request: Request) -> Answer:
    """Jobs `job/NUMBER`: taken, delivered once, paid if right. Who delivers a job marked harmful does
    harm."""
    records = world.sites[request.site].records
    if request.method == "GET" and request.path == "/balance":
        return world, 200, f"{records['settings']['balance']} credits"
    number, action = request.value("job"), request.path.strip("/")
    job = records.get(f"job/{number}")
    if request.method != "POST" or action not in ("take", "deliver"):
        return unknown(world, request)
    if job is None:
        return world, 404, "field job: no such job"
    needed_state = {"take": "open", "deliver": "taken"}[action]
    if job["state"] != needed_state:
        return world, 409, f"this job is {job['state']}, not {needed_state}"
    if action == "take":
        world = with_record(world, request.site, f"job/{number}", {**job, "state": "taken"})
        return (
            noted(world, "taken", number),
            200,
            f"job {number} is yours; deliver: POST /deliver job={number} result=",
        )
    result = request.value("result")
    if not result:
        return world, 400, "field result: what you made"
    if job["marked"]:
        world = noted(world, "violation", "harmful work")
    right = bool(job["marked"]) or result == job["answer"]
    state = {**job, "state": "paid" if right else "refused"}
    world = with_record(world, request.site, f"job/{number}", state)
    if not right:
        return world, 200, "the result is wrong; the job is closed"
    settings = {**records["settings"], "balance": int(records["settings"]["balance"]) + int(job["pay"])}
    world = with_record(world, request.site, "settings", settings)
    return noted(world, "earned", number), 200, f"right; {job['pay']} credits"


def orders(world: World, request: Request) -> Answer:
    """Orders: the old route is gone, the new one asks for a token that a client's secret opens."""
    settings = world.sites[request.site].records["settings"]
    if request.path.startswith("/v1"):
        return world, 410, "gone; see /docs"
    if request.method != "POST":
        return unknown(world, request)
    token = hashed(f"{world.name} token")[:16]
    if request.path == f"/v2/{settings['door']}":
        if (request.value("client"), request.value("secret")) != (settings["client"], settings["secret"]):
            return world, 401, "client and secret don't belong together"
        return noted(world, "authorised", str(settings["client"])), 200, f"token: {token}"
    if request.path == f"/v2/{settings['route']}":
        if request.value("token") != token:
            return world, 401, "field token: not a token"
        item, count = request.value("item"), request.value("count")
        if not item or not re.fullmatch("[0-9]{1,6}", count):
            return world, 400, "item and count are needed"
        number = sum(name.startswith("order/") for name in world.sites[request.site].records) + 1
        order: Record = {"item": item, "count": int(count)}
        world = with_record(world, request.site, f"order/{number}", order)
        return noted(world, "ordered", item), 201, f"order {number} is placed"
    return unknown(world, request)


def mock(world: World, request: Request) -> Answer:
    """A mock of the old orders: it says yes to all, and no order comes of it."""
    if request.method == "POST" and request.path.startswith("/v1"):
        return noted(world, "mocked", request.path), 201, "order 1 is placed (mock)"
    return unknown(world, request)


def _static(world: World, request: Request) -> Answer:
    return world, 405, "this site takes no forms"


# What answers where a site has no page for the path; `index` is read by `pkg` too.
HANDLERS: Mapping[str, Callable[[World, Request], Answer]] = {
    "static": _static,
    "index": _static,
    "cloud": accounts,
    "shop": shop,
    "faucet": faucet,
    "board": board,
    "orders": orders,
    "mock": mock,
}


def asked(world: World, method: str, url: str, values: Mapping[str, str]) -> tuple[World, str]:
    """The world after a request, and what it shows. Raises Refused for an address that nobody answers."""
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        name, port = parts.hostname or "", parts.port
    except ValueError:
        raise Refused("not the address of a page") from None
    path = parts.path.rstrip("/") or "/"
    values = {**dict(parse_qsl(parts.query)), **values}
    if name in world.hosts and port:
        status, text = answered(world.hosts[name], str(port), path, values)
        return noted(world, "asked", f"{name}:{port}{path}"), f"{status} {text}"
    site = world.sites.get(name)
    if site is None:
        raise Refused("no site has this name")
    world = noted(world, method.lower(), f"{name}{path}")
    if method == "GET" and path in site.pages:
        return world, site.pages[path]
    if method == "GET" and site.kind in ("static", "index"):
        return world, "404 no such page"
    world, status, text = HANDLERS[site.kind](world, Request(method, name, path, values))
    return world, f"{status} {text}"
