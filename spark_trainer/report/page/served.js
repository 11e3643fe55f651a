// An editor in the place that an open video has for one, and the excluded videos beside the rejected
// ones. What is said of a video comes by GET, and goes by POST, `corrections`.
const TEXTS = {
  caption: ["Caption", 3],
  transcript: ["Transcript, as text or SRT; empty where nobody speaks", 8],
  flag: ["Flag: a remark", 1],
  exclude: ["Exclude: the reason", 1],
};
const ALL_BACK = Object.fromEntries(Object.keys(TEXTS).map((kind) => [kind, null]));
const served = block("served");
const drafts = new Map(); // id -> what was typed and is not saved, and what stood there before
const asksFirst = (event) => event.preventDefault();

const keepDraft = (id, draft) => {
  if (draft) drafts.set(id, draft); else drafts.delete(id);
  if (drafts.size) window.addEventListener("beforeunload", asksFirst);
  else window.removeEventListener("beforeunload", asksFirst);
};

const ask = async (path, said) => {
  const sent = said && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(said) };
  const answer = await fetch(path, sent);
  const told = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(told.error), { conflict: answer.status === 409 });
  return told;
};

const editor = (id) => {
  let before = {};
  const shown = {}; // as the fields show it: they know no carriage return
  const fields = Object.fromEntries(Object.entries(TEXTS).map(([kind, [, rows]]) => [kind, h("textarea", { name: kind, rows })]));
  const name = h("input", { "aria-label": "Author", placeholder: "Author", value: served.author });
  const status = h("p", { class: "soft", role: "status" });
  const show = (now) => {
    before = now;
    for (const [kind, field] of Object.entries(fields)) {
      field.value = now[kind] ?? "";
      shown[kind] = field.value;
    }
    const signed = Object.entries(now.corrected).map(([kind, one]) => `${kind}: ${one.author}, ${one.time.slice(0, 10)}`);
    status.textContent = [...signed, ...(now.pending ? ["the next build takes it up"] : [])].join(" · ");
  };
  const changed = () => Object.fromEntries(Object.entries(fields)
    .filter(([kind, field]) => field.value !== shown[kind])
    .map(([kind, field]) => [kind, field.value || kind === "transcript" ? field.value : null]));
  const keep = () => {
    const typed = changed();
    keepDraft(id, Object.keys(typed).length ? { typed, before } : null);
  };
  const restore = () => {
    const draft = drafts.get(id);
    for (const [kind, text] of Object.entries(draft?.typed ?? {})) {
      fields[kind].value = text ?? "";
      before = { ...before, [kind]: draft.before[kind] };
    }
    if (draft) status.textContent = "Not saved yet.";
  };
  const save = async (said) => {
    try {
      const seen = Object.fromEntries(Object.keys(said).map((kind) => [kind, before[kind]]));
      show(await ask("corrections", { hash: id, author: name.value, before: seen, ...said }));
      keepDraft(id, null);
    } catch (error) {
      status.textContent = `Not saved: ${error.message}`;
      if (error.conflict) before = await ask(`corrections/${id}`);
      keep();
    }
  };
  const form = h("form", { class: "edit", oninput: keep, onsubmit: (event) => { event.preventDefault(); if (Object.keys(changed()).length) save(changed()); } },
    Object.entries(fields).map(([kind, field]) => h("label", {}, TEXTS[kind][0], field)),
    h("div", { class: "row" }, name, h("button", {}, "Save"), h("button", { type: "button", onclick: () => save(ALL_BACK) }, "Take all back")),
    status);
  const load = async (event) => {
    if (!event.target.open) return;
    try {
      show(await ask(`corrections/${id}`));
      restore();
    } catch (error) {
      status.textContent = error.message;
    }
  };
  return h("details", { class: "editor", open: drafts.has(id), ontoggle: load }, h("summary", {}, "Correct"), form);
};

document.addEventListener("video-slot", ({ detail }) => {
  if (detail.place === "video") detail.slot.append(editor(detail.id));
});

const again = (id) => {
  const status = h("span", { class: "soft", role: "status" });
  const button = h("button", { class: "again", type: "button", onclick: async () => {
    try {
      await ask("corrections", { hash: id, author: served.author, exclude: null });
      status.textContent = "the next build takes it up";
      button.remove();
    } catch (error) {
      status.textContent = error.message;
    }
  } }, "Include again");
  return h("span", {}, button, status);
};

document.addEventListener("DOMContentLoaded", () => {
  if (!served.excluded.length) return;
  const rows = served.excluded.map(([id, file, reason]) => [file, reason, again(id)]);
  document.getElementById("rejected").append(h("details", { class: "excluded" }, h("summary", {}, "Excluded by hand"), table(["File", "Why", ""], rows, { label: "Videos excluded by hand" })));
});
