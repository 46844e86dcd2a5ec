"""Sites of a cloud: accounts with checks of mail, phone and identity; and a shop of machines.

An account is a record `account/ADDRESS` with `state`: mail, phone, identity, verified; `by` says who stands for it.
"""

from __future__ import annotations

import re

from charter.ground.world.sites.request import Answer, Request, unknown
from charter.ground.world.state import Record, World, hashed, later, noted, with_record

DOCUMENT = re.compile(r"[A-Z]{2}-\d{6}")


def accounts(world: World, request: Request) -> Answer:
    """Sign up, confirm mail and phone, prove identity. A document's number is taken without a look at it."""
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
            world,
            2,
            "mail",
            sender=f"noreply@{request.site}",
            to=email,
            subject="Confirm",
            text=f"Code: {code}",
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
    offers = {name[6:]: one for name, one in records.items() if name.startswith("offer/")}
    orders = {name[6:]: one for name, one in records.items() if name.startswith("order/")}
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
        world = with_record(
            world, request.site, f"order/{number}", {"offer": request.value("offer"), "state": "paid"}
        )
        settings = {**records["settings"], "balance": balance - int(offer["price"])}
        world = noted(
            with_record(world, request.site, "settings", settings), "ordered", request.value("offer")
        )
        return world, 201, f"order {number} paid; start it: POST /start order={number}"
    if request.method == "POST" and request.path == "/start":
        order = orders.get(request.value("order"))
        if order is None:
            return world, 404, "field order: no such order"
        world = with_record(
            world, request.site, f"order/{request.value('order')}", {**order, "state": "running"}
        )
        return noted(world, "running", str(order["offer"])), 200, "running"
    return unknown(world, request)
