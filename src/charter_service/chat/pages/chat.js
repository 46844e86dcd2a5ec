// What pages gain from a script; every page works without it. Nothing is stored in the browser, and nothing is sent to
// anywhere but this service.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);
const touch = matchMedia("(pointer: coarse)").matches;

// Copying: a text that stands in the page, a message as it was written, a piece of code.
const copied = async (button, text) => {
  await navigator.clipboard.writeText(text);
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = before), 1500);
};

function dress(root) {
  if (navigator.clipboard) {
    for (const button of all("[data-copy]", root)) {
      const named = button.dataset.copy; // else the message that the button stands in, as it was written
      button.hidden = false;
      button.onclick = () => copied(button, named ? one(`#${named}`).textContent.trim() : button.nextElementSibling.content.textContent);
    }
    for (const code of all(".code", root)) {
      if (one(".copy", code)) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "quiet-button copy";
      button.textContent = "Copy";
      button.onclick = () => copied(button, one("code", code).textContent);
      code.append(button);
    }
  }
  for (const link of all("[data-unfold]", root)) link.addEventListener("click", unfold);
  for (const form of all("form[data-quiet]", root)) form.addEventListener("submit", quietly);
  for (const form of all("form[method=post]:not([data-quiet])", root)) form.addEventListener("submit", sendOnce);
}

// The form behind a link, put in the link's place; the one to edit a message takes the message's place.
async function unfold(event) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const link = event.currentTarget;
  const answer = await fetch(link.href).catch(() => null);
  const whole = answer?.ok && one("article", parsed(await answer.text()));
  const form = whole && one(".edit, .acts details, .stop details", whole);
  if (!form) return location.assign(link.href); // which says why
  if (!link.isConnected) return;
  if (form.matches(".edit")) return edit(link, whole, form);
  link.replaceWith(form);
  dress(form);
  one("summary", form).focus();
}

function edit(link, whole, form) {
  const article = link.closest("article");
  const text = one("textarea", form);
  const fold = () => {
    whole.replaceWith(article);
    link.focus();
  };
  article.replaceWith(whole);
  dress(whole);
  sendOnEnter(text, form, () => true);
  one("[data-fold]", form).addEventListener("click", (event) => {
    event.preventDefault();
    fold();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing) return;
    event.stopPropagation(); // else it would stop a reply
    fold();
  });
  text.focus();
  text.setSelectionRange(text.value.length, text.value.length);
}

// Enter sends where there is a keyboard; the key that ends the choice of a character in Japanese, Chinese or Korean
// doesn't.
function sendOnEnter(text, form, may) {
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || event.keyCode === 229 || event.shiftKey || touch) return;
    event.preventDefault();
    if (may() && text.value.trim()) form.requestSubmit();
  });
}

function parsed(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  return holder.content;
}

function sendOnce(event) {
  const form = event.currentTarget;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, 3000);
}

// A thumb doesn't need a new page.
async function quietly(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const answer = await post(form.action, new FormData(form, event.submitter));
  const facts = await answer.json();
  say(answer.ok ? "It is noted." : facts.error);
  if (!answer.ok) return;
  const dialog = form.closest("details");
  dialog.open = false;
  one("summary", dialog).textContent = facts.thumb === "up" ? "Rated good" : "Rated bad";
  one("summary", dialog).focus();
}

const post = (place, data, more = {}) =>
  fetch(place, { method: "POST", body: new URLSearchParams(data), headers: { Accept: "application/json" }, ...more });

// What a screen reader hears: each finished block once, and notices.
const spoken = one("#spoken");
function say(text) {
  if (!spoken || !text) return;
  const line = document.createElement("p");
  line.textContent = text;
  spoken.append(line);
  while (spoken.children.length > 20) spoken.firstChild.remove();
}

document.addEventListener("say", (event) => say(event.detail));

// The page follows a growing reply only if its end was in view, and any upward gesture lets go.
let following = false;
const atEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - 120;
addEventListener("scroll", () => (following = atEnd()), { passive: true });
addEventListener("wheel", (event) => event.deltaY < 0 && (following = false), { passive: true });
const keepUp = () => following && scrollTo({ top: document.documentElement.scrollHeight });

// A reply that is being written: each event replaces a block by its number, so a lost connection loses nothing.
function follow(article) {
  const place = article.dataset.place;
  const blocks = one("[data-blocks]", article);
  const known = Math.max(0, blocks.children.length - 1);
  const stream = new EventSource(`${place}/events?known=${known}`);
  let heard = known;
  const speakTo = (end) => {
    for (; heard < end; heard++) say(blocks.children[heard]?.textContent);
  };
  // at most once a frame, so that keys pressed meanwhile show soon
  const changed = new Map();
  const draw = () => {
    for (const [number, html] of changed) {
      let block = blocks.children[number];
      if (!block) {
        block = document.createElement("div");
        block.dataset.block = number;
        blocks.append(block);
      }
      block.innerHTML = html;
      speakTo(number);
    }
    if (changed.size) keepUp();
    changed.clear();
  };
  stream.addEventListener("block", (event) => {
    if (!changed.size) requestAnimationFrame(draw);
    changed.set(Number(event.lastEventId), event.data);
  });
  stream.addEventListener("cut", (event) => {
    draw();
    while (blocks.children.length > Number(event.data)) blocks.lastChild.remove();
  });
  stream.addEventListener("state", async () => {
    stream.close();
    draw();
    const answer = await fetch(place);
    if (!answer.ok) return location.reload();
    const whole = one("article", parsed(await answer.text()));
    if (whole.dataset.state === "running") return setTimeout(() => follow(article), 300);
    // of a stopped reply what the page shows in its place
    if (whole.dataset.state === "refused") say(one(".stop p", whole)?.textContent);
    else speakTo(blocks.children.length);
    article.replaceWith(whole);
    dress(whole);
    keepUp();
    ready();
    say("The reply is complete.");
  });
  stream.onerror = () => {
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
  };
}

const composer = one("#composer");
const send = composer && one("button", composer);

function ready() {
  if (send) send.disabled = one("[data-state=running]") !== null;
}

dress(document);
for (const article of all("[data-state=running]")) follow(article);

if (composer) {
  const text = one("textarea", composer);
  sendOnEnter(text, composer, () => !send.disabled);
  if (!touch) text.focus({ preventScroll: true });
  // what is typed is kept on the server, so that another device has it too; the id tells it from what was sent
  const place = composer.dataset.draft;
  let waiting;
  const keep = (more = {}) => {
    clearTimeout(waiting);
    waiting = undefined;
    post(place, { csrf: composer.csrf.value, client: composer.client.value, text: text.value }, more).catch(() => {});
  };
  if (place) {
    text.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => keep(), 800);
    });
    addEventListener("pagehide", () => waiting && keep({ keepalive: true }));
  }
  composer.addEventListener("submit", () => {
    clearTimeout(waiting);
    waiting = undefined;
  });
}

// Another model holds from then on, for another try as well.
for (const field of all("[data-change]"))
  field.addEventListener("change", async () => {
    const answer = await post(field.dataset.change, { csrf: composer.csrf.value, model: field.value }).catch(() => null);
    say(answer?.ok ? `${field.selectedOptions[0].textContent} writes the next replies.` : (await answer?.json())?.error);
  });

// A chat opens at its last message, if its address names no other one.
const last = all(".line > .said").pop();
if (last && !location.hash && composer) {
  const show = () => last.scrollIntoView({ block: "start" });
  show();
  requestAnimationFrame(() => requestAnimationFrame(show)); // what came into view has its true height now
}

for (const field of all("[data-into]")) {
  field.hidden = false;
  field.addEventListener("change", async () => (one(`#${field.dataset.into}`).value = await field.files[0].text()));
}

document.addEventListener("keydown", (event) => {
  const control = event.ctrlKey || event.metaKey;
  if (control && event.key.toLowerCase() === "k") {
    event.preventDefault();
    const side = one("#side");
    if (side && !side.checkVisibility()) side.showPopover();
    one("#q")?.focus();
  } else if (control && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    location.assign("/");
  } else if (event.key === "Escape") {
    const open = all("details.drop[open]").pop();
    if (open) {
      open.open = false;
      one("summary", open).focus();
    } else one("[data-state=running] form[action$='/stop'] button")?.click();
  }
});
