// One clip, large: it plays, and everything said of it stands beside it.
const dialog = document.getElementById("clip");
let shownClip = -1;

// Where an editor can put itself: a slot on each card and in the open clip. Who wants them listens
// for `clip-slot` on the document; `detail` has the slot, the clip's id and its place.
const slotOf = (number, place) => {
  const slot = h("div", { class: "slot", "data-clip": columns.id[number], "data-place": place });
  document.dispatchEvent(new CustomEvent("clip-slot", { detail: { slot, id: columns.id[number], number, place } }));
  return slot;
};

const captionCards = (clip) => {
  const captions = clip.captions || [];
  if (!captions.length) return [h("p", { class: "none" }, (clip.facts || {}).no_caption || "No caption.")];
  return captions.map(([by, model, text, score, selected]) =>
    h("div", { class: selected ? "said selected" : "said" },
      h("p", { class: "by" }, h("b", {}, by), model ? ` · ${model}` : "", score === null ? "" : ` · score ${value(score)}`, selected && captions.length > 1 ? " · selected" : ""),
      h("p", { class: "text" }, text || h("span", { class: "none" }, "empty"))));
};

const transcriptOf = (clip, seek) => {
  const parts = clip.segments || [];
  if (!parts.length) return h("p", { class: "none" }, clip.no_transcript || "No transcript.");
  return h("div", { class: "said transcript" }, parts.map(([start, text]) =>
    h("p", { class: "text" }, start === null ? "" : h("button", { class: "time", type: "button", onclick: () => seek(start) }, clock(start)), text)));
};

const factsOf = (number, clip) => facts([
  ["Hash", h("code", {}, columns.id[number])],
  ["Also as", (clip.files || []).join(", ")],
  ["Picture", clip.size && `${clip.size[0]} × ${clip.size[1]}`],
  ["Frames", clip.num_frames && count(clip.num_frames)],
  ["Agreement", columns.agreement[number] === null ? null : value(columns.agreement[number])],
  ["Language", columns.language[number]],
  ...Object.entries(clip.facts || {}).filter(([name]) => name !== "no_caption").map(([name, said]) => [spelled(name), plain(said)]),
  ["Seen by", clip.runs && h("span", {}, clip.runs.map(([run, split], place) => [place ? ", " : "", h("a", { href: "#runs", onclick: () => dialog.close() }, block("runs").runs[run].name), ` (${split})`]))],
]);

const showClip = (number, order) => {
  const clip = details(number);
  shownClip = number;
  const place = order.indexOf(number);
  const step = (by) => { const next = order[place + by]; if (next !== undefined) showClip(next, order); };
  const film = player(clip, picture(number));
  const seek = (seconds) => film.seek(seconds);
  const strip = (clip.shots || []).length > 1 && h("ol", { class: "strip", "aria-label": "Frames" }, clip.shots.map((shot) => {
    const image = h("img", { src: frameLink(clip, shot), alt: "", loading: "lazy", decoding: "async" });
    image.addEventListener("error", () => image.closest("li").remove());
    return h("li", {}, h("button", { type: "button", "aria-label": shot[1] === null ? "Frame" : `To ${clock(shot[1])}`, onclick: () => seek(shot[1] || 0) }, image, shot[1] === null ? null : h("span", {}, clock(shot[1]))));
  }));
  const turn = (by, label, sign) => h("button", { type: "button", class: "round", "aria-label": label, disabled: order[place + by] === undefined, onclick: () => step(by) }, sign);
  dialog.replaceChildren(
    h("div", { class: "clip-head" },
      h("h2", { id: "clip-title" }, columns.name[number]),
      h("p", { class: "soft" }, place < 0 ? "" : `${count(place + 1)} of ${count(order.length)}`),
      turn(-1, "Previous clip", "‹"), turn(1, "Next clip", "›"),
      h("button", { type: "button", class: "round", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
    h("div", { class: "clip-body" },
      h("div", { class: "watch" }, film, strip),
      h("div", { class: "told" },
        slotOf(number, "clip"),
        h("h3", {}, (clip.captions || []).length > 1 ? "Captions" : "Caption"), captionCards(clip),
        h("h3", {}, "Transcript"), transcriptOf(clip, seek),
        h("details", { open: true }, h("summary", {}, "Facts"), factsOf(number, clip)))));
  dialog.onkeydown = (event) => {
    if (event.target.closest("input, textarea, select, video, audio") || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") { event.preventDefault(); step(event.key === "ArrowLeft" ? -1 : 1); }
  };
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  history.replaceState(null, "", `#clip-${columns.id[number].slice(0, 12)}`);
};

dialog.addEventListener("close", () => {
  dialog.replaceChildren(); // what plays stops
  history.replaceState(null, "", "#gallery");
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

// A link to a clip by its hash or the beginning of it; plain text where the gallery lacks it.
const clipLink = (beginning, text) => {
  const number = numberOf(beginning);
  if (number < 0) return h("span", {}, text);
  return h("a", { href: `#clip-${columns.id[number].slice(0, 12)}`, onclick: (event) => { event.preventDefault(); showClip(number, [number]); } }, text);
};
