// Puts a player and an editor into each element with `data-clip`; both load what they show when
// they are opened. What is said of a video comes from GET and goes to POST `corrections`.
(() => {
  const author = document.currentScript.dataset.author;
  const TEXTS = { caption: 3, transcript: 8, flag: 1, exclude: 1 };
  const LABELS = {
    caption: "Caption",
    transcript: "Transcript, as text or SRT; empty where nobody speaks",
    flag: "Flag: a remark",
    exclude: "Exclude: the reason",
  };

  function make(name, properties = {}, ...children) {
    const node = Object.assign(document.createElement(name), properties);
    node.append(...children);
    return node;
  }

  async function ask(path, said) {
    const options = said && {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(said),
    };
    const answer = await fetch(path, options);
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    return told;
  }

  function player(hash) {
    return make("video", { controls: true, preload: "none", src: `video/${hash}` });
  }

  function editor(hash) {
    const fields = {};
    const status = make("p", { className: "fact", role: "status" });
    const name = make("input", { value: author, ariaLabel: "Author", placeholder: "Author" });
    const form = make("form", { className: "edit" });
    let before = {};

    function show(now) {
      before = now;
      for (const kind in TEXTS) fields[kind].value = now[kind] ?? "";
      const signed = Object.entries(now.corrected);
      status.textContent = signed
        .map(([kind, one]) => `${kind}: ${one.author}, ${one.time.slice(0, 10)}`)
        .concat(now.pending ? ["the next build takes it up"] : [])
        .join(" · ");
    }

    async function save(said) {
      try {
        show(await ask("corrections", { hash, author: name.value, ...said }));
      } catch (error) {
        status.textContent = `Not saved: ${error.message}`;
      }
    }

    for (const [kind, rows] of Object.entries(TEXTS)) {
      fields[kind] = make("textarea", { rows, name: kind });
      form.append(make("label", {}, LABELS[kind], fields[kind]));
    }
    const back = make("button", { type: "button" }, "Take all back");
    back.onclick = () => save(Object.fromEntries(Object.keys(TEXTS).map((kind) => [kind, null])));
    form.append(make("div", {}, name, make("button", {}, "Save"), back), status);
    form.onsubmit = (event) => {
      event.preventDefault();
      const said = {};
      for (const kind in TEXTS) {
        const text = fields[kind].value;
        if (text === (before[kind] ?? "")) continue;
        said[kind] = text || kind === "transcript" ? text : null;
      }
      if (Object.keys(said).length) save(said);
    };
    const details = make("details", {}, make("summary", {}, "Correct"), form);
    details.ontoggle = async () => {
      if (!details.open) return;
      try {
        show(await ask(`corrections/${hash}`));
      } catch (error) {
        status.textContent = error.message;
      }
    };
    return details;
  }

  function including(hash) {
    const button = make("button", { type: "button" }, "Include again");
    button.onclick = async () => {
      try {
        await ask("corrections", { hash, author, exclude: null });
        button.replaceWith("the next build takes it up");
      } catch (error) {
        button.after(error.message);
      }
    };
    return button;
  }

  for (const element of document.querySelectorAll("[data-clip]")) {
    const hash = element.dataset.clip;
    if ("excluded" in element.dataset) element.append(including(hash));
    else element.append(make("div", { className: "served" }, player(hash), editor(hash)));
  }
})();
