// Files of a message: chosen, dropped or pasted ones are sent at once, with their progress, and counted when they are
// read. Without this script the form carries them.
const composer = document.querySelector("#composer");
const box = composer?.querySelector("[data-attached]");
if (box) start();

function start() {
  const list = box.querySelector(".files");
  const field = box.querySelector("input[type=file]");
  const text = composer.querySelector("textarea");
  const counted = box.querySelector("[data-counted]");
  const problem = box.querySelector("[data-problem]");
  const json = { Accept: "application/json" };
  const waiting = new Map(); // chips of files that are not ready, and their names
  let queue = Promise.resolve();
  let wanted = false; // whether Send was pressed while files are read
  let tooLong = ""; // the message that doesn't fit, as it was counted

  const say = (detail) => document.dispatchEvent(new CustomEvent("say", { detail }));
  const complain = (words) => {
    problem.textContent = words && words[0].toUpperCase() + words.slice(1) + ".";
  };
  const ids = () => [...list.querySelectorAll("input[name=file]")].map((one) => one.value);
  const body = () => {
    const fields = new URLSearchParams({ csrf: composer.csrf.value, text: text.value });
    for (const name of ["parent", "model"]) if (composer.elements[name]) fields.set(name, composer.elements[name].value);
    for (const id of ids()) fields.append("file", id);
    return fields;
  };

  function chipOf(html) {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const chip = holder.content.querySelector("li");
    chip.querySelector("[data-remove]")?.addEventListener("click", remove);
    return chip;
  }

  // a chip of a file that is on its way, with a progress bar and a way to call it back
  function begin(file, cancel) {
    const chip = document.createElement("li");
    const name = document.createElement("span");
    const bar = document.createElement("progress");
    const stop = document.createElement("button");
    chip.className = "file";
    chip.dataset.state = "sending";
    name.className = "name";
    name.textContent = file.name;
    bar.setAttribute("aria-label", `Sending ${file.name}`);
    bar.max = file.size || 1;
    bar.value = 0;
    stop.type = "button";
    stop.className = "quiet-button";
    stop.textContent = "Cancel";
    stop.addEventListener("click", cancel);
    chip.append(name, bar, stop);
    list.append(chip);
    waiting.set(chip, file.name);
    return { chip, bar };
  }

  function settle(chip, other) {
    waiting.delete(chip);
    if (other) chip.replaceWith(other);
    else chip.remove();
    if (waiting.size === 0 && wanted) {
      wanted = false;
      if (!problem.textContent) composer.requestSubmit();
    }
  }

  function send(file) {
    const most = Number(box.dataset.most);
    if (list.children.length >= most) return complain(`a message takes at most ${most} files; remove one first`);
    if (file.size > Number(box.dataset.each))
      return complain(`${file.name} is larger than ${box.dataset.eachWords}, the limit of a file; send a part of it`);
    complain("");
    const request = new XMLHttpRequest();
    const { chip, bar } = begin(file, () => (request.abort(), settle(chip)));
    request.upload.onprogress = (event) => (bar.value = event.loaded);
    queue = queue.then(
      () =>
        new Promise((done) => {
          if (!chip.isConnected) return done();
          request.onloadend = () => done(arrived(request, chip, file.name));
          request.open("POST", box.dataset.place);
          request.setRequestHeader("Accept", "application/json");
          const form = new FormData();
          form.set("csrf", composer.csrf.value);
          form.set("upload", file, file.name);
          request.send(form);
        }),
    );
  }

  function arrived(request, chip, name) {
    if (!chip.isConnected) return;
    let answer = {};
    try {
      answer = JSON.parse(request.responseText);
    } catch {}
    if (request.status !== 201) {
      settle(chip);
      complain(answer.error || `${name} could not be sent; try it again`);
      return;
    }
    const other = chipOf(answer.files[0].html);
    chip.replaceWith(other);
    waiting.delete(chip);
    watch(other, name);
  }

  // waits until a file is read
  async function watch(chip, name) {
    if (chip.dataset.state === "received" || chip.dataset.state === "reading") {
      waiting.set(chip, name);
      say(`${name} is being read.`);
      let answer;
      do {
        const reply = await fetch(`/f/${chip.dataset.file}/state`, { headers: json }).catch(() => null);
        if (!chip.isConnected) return settle(chip);
        answer = reply?.ok ? await reply.json() : null;
        if (!answer) await new Promise((again) => setTimeout(again, 2000));
      } while (!answer || answer.state === "received" || answer.state === "reading");
      const other = chipOf(answer.html);
      say(answer.state === "ready" ? `${name} is ready.` : `${name} can't be read: ${answer.reason}`);
      settle(chip, other);
    }
    await count();
  }

  async function remove(event) {
    event.preventDefault();
    const chip = event.currentTarget.closest("li");
    const name = chip.querySelector(".name, a").textContent;
    const fields = new URLSearchParams({ csrf: composer.csrf.value });
    const answer = await fetch(event.currentTarget.formAction, { method: "POST", body: fields, headers: json });
    if (!answer.ok) return complain((await answer.json()).error);
    waiting.delete(chip);
    chip.remove();
    complain("");
    say(`${name} is removed.`);
    box.querySelector("summary").focus();
    count();
  }

  async function count() {
    const message = body().toString();
    if (!ids().length) {
      counted.textContent = "";
      complain((tooLong = ""));
      return;
    }
    const answer = await fetch(box.dataset.count, { method: "POST", body: body(), headers: json }).catch(() => null);
    if (!answer?.ok || message !== body().toString()) return; // the server counts again when the message is sent
    const { words, problem: why, files } = await answer.json();
    counted.textContent = words;
    tooLong = why && message;
    complain(why);
    for (const [id, facts] of Object.entries(files)) {
      const note = list.querySelector(`[data-file="${id}"] .note`);
      if (note) note.textContent = facts;
    }
  }

  field.addEventListener("change", () => {
    const files = [...field.files];
    field.value = "";
    files.forEach(send);
  });
  box.querySelector("[data-attach]").hidden = true;
  for (const name of ["dragover", "drop"])
    composer.addEventListener(name, (event) => {
      if (![...(event.dataTransfer?.types || [])].includes("Files")) return;
      event.preventDefault();
      if (name === "drop") [...event.dataTransfer.files].forEach(send);
    });
  text.addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    [...event.clipboardData.files].forEach(send);
  });
  let pause;
  text.addEventListener("input", () => {
    clearTimeout(pause);
    if (ids().length) pause = setTimeout(count, 600);
  });
  composer.addEventListener("submit", (event) => {
    if (event.submitter?.hasAttribute("formaction")) return;
    if (waiting.size) {
      event.preventDefault();
      event.stopImmediatePropagation();
      wanted = true;
      counted.textContent = `Sent as soon as ${[...waiting.values()].join(", ")} can be read.`;
      say(counted.textContent);
    } else if (tooLong && tooLong === body().toString()) {
      event.preventDefault();
      event.stopImmediatePropagation();
      say(problem.textContent);
    }
  });
  for (const chip of list.children) {
    chip.querySelector("[data-remove]")?.addEventListener("click", remove);
    watch(chip, chip.querySelector(".name, a").textContent);
  }
}
