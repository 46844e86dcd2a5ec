// Small comforts; every page works without them. Nothing is stored and nothing is sent but what a form sends.
"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);

// The replies are asked for until both are there.
const waiting = one("[data-turn]");
if (waiting) {
  let pause = 700;
  const look = async () => {
    try {
      const answer = await fetch(`/turn/${waiting.dataset.turn}/state`, { headers: { Accept: "application/json" } });
      if (answer.status === 401 || answer.status === 404) return location.reload();
      if (answer.ok && (await answer.json()).state !== "waiting") return location.reload();
    } catch {
      pause = 4000; // the server is away for a moment
    }
    pause = Math.min(4000, pause * 1.15);
    setTimeout(look, pause);
  };
  setTimeout(look, pause);
}

// Instructions pop up the first time.
const fresh = one("[popover][data-fresh]");
if (fresh && fresh.showPopover) fresh.showPopover();

for (const group of all("[data-most]")) {
  const boxes = all("input", group);
  const limit = () => {
    const full = boxes.filter((box) => box.checked).length >= Number(group.dataset.most);
    for (const box of boxes) box.disabled = full && !box.checked;
  };
  group.addEventListener("change", limit);
  limit();
}

const vote = one("#vote");
const verdict = one("#verdict");
const veils = all(vote ? ".pair .veil" : ".veil.whole");

if (vote) {
  const edited = one("#edited");
  const sides = all(".reply");
  const drafts = sides.map((side) => one(".text", side)?.textContent ?? "");
  let shown = null;
  const chosen = () => {
    const radio = one("input[name=choice]:checked", vote);
    const side = radio === null || Number.isNaN(Number(radio.value)) ? null : Number(radio.value) < 0 ? 0 : 1;
    sides.forEach((reply, place) => reply.classList.toggle("picked", place === side));
    one("#said").textContent = radio ? (radio.ariaLabel ?? radio.parentElement.textContent).trim() : "";
    if (!edited) return;
    if (shown !== null) drafts[shown] = edited.value;
    shown = side;
    edited.disabled = side === null;
    edited.value = side === null ? "" : drafts[side];
  };
  const given = [...drafts];
  vote.addEventListener("change", chosen);
  vote.addEventListener("formdata", (event) => {
    if (shown !== null && edited.value === given[shown]) event.formData.delete("edited"); // nothing was changed
  });
  chosen();
}

const choose = (form, name, value) => {
  const radio = one(`input[name=${name}][value="${value}"]`, form);
  radio.checked = true;
  radio.focus();
  radio.dispatchEvent(new Event("change", { bubbles: true }));
};

document.addEventListener("keydown", (event) => {
  const form = vote ?? verdict;
  const inside = event.target;
  if (!form || event.ctrlKey || event.metaKey || event.altKey || one("[popover]:popover-open")) return;
  if (inside.matches("textarea, select, input:not([type=radio], [type=checkbox])")) return;
  const key = event.key.toLowerCase();
  if (vote && key >= "1" && key <= "8" && key.length === 1) choose(vote, "choice", Number(key) - (key < "5" ? 5 : 4));
  else if (vote && key === "t") choose(vote, "choice", "tie");
  else if (vote && key === "n") choose(vote, "choice", "both_bad");
  else if (verdict && key >= "0" && key <= "4" && key.length === 1) choose(verdict, "rating", key);
  else if (key === "s" && veils.length) {
    const open = veils.some((veil) => !veil.open);
    for (const veil of veils) veil.open = open;
  } else if (key === "enter" && !inside.matches("a, button, summary, input")) form.requestSubmit();
  else return;
  event.preventDefault();
});
