// Shows the workbench's answers while they are written. Without it the next page has them.
"use strict";

{
  const form = document.querySelector("#workbench");
  const place = document.querySelector("#answers");
  const grouped = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, " ");
  const sides = [];

  const element = (name, className, text = "") => {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  };

  const begin = (models) => {
    sides.length = 0;
    place.replaceChildren();
    place.setAttribute("aria-busy", "true");
    for (const model of models) {
      const article = element("article", "answer");
      article.append(element("h2", "", model), element("div", "said"));
      place.append(article);
      sides.push(article);
    }
  };

  const show = (event) => {
    if (event.proof) form.elements.csrf.value = event.proof;
    const side = sides[event.side];
    if (!side) return;
    if (event.text) side.querySelector(".said").append(event.text);
    if (event.error) side.append(element("p", "notice bad", event.error));
    if (event.end) {
      const { end } = event;
      const why = end.stop === "refused" ? `The policy blocked it: ${end.reason} ` : "";
      const tokens = `${grouped(end.input_tokens)} tokens read, ${grouped(end.cached_tokens)} of them from a cache; `;
      const note = element("p", "note", `${why}${tokens}${grouped(end.output_tokens)} written; ${grouped(end.milliseconds)} ms. `);
      const link = element("a", "", "Its request");
      link.href = `/admin/requests?request=${encodeURIComponent(end.request)}`;
      note.append(link);
      side.append(note);
    }
  };

  const run = async (button) => {
    const body = new URLSearchParams(new FormData(form, button));
    const models = [...new Set([body.get("model"), body.get("other")].filter(Boolean))];
    const answer = await fetch(form.action, { method: "POST", body, headers: { accept: "application/x-ndjson" } });
    if (!answer.ok || !answer.headers.get("content-type").startsWith("application/x-ndjson")) {
      document.open();
      document.write(await answer.text());
      document.close();
      return;
    }
    begin(models);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) show(JSON.parse(line));
    }
    place.removeAttribute("aria-busy");
  };

  form.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (!button || button.value !== "run" || !window.TextDecoderStream || event.defaultPrevented) return;
    event.preventDefault();
    run(button).catch(() => form.submit());
  });
}
