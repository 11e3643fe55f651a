// One video, large: it plays, and everything said of it stands beside it.
const dialog = document.getElementById("video");
let shownVideo = -1;

// Where an editor can put itself: a slot on each card and in the open video. Who wants them listens
// for `video-slot` on the document; `detail` has the slot, the video's id and its place.
const slotOf = (number, place) => {
  const slot = h("div", { class: "slot", "data-video": columns.id[number], "data-place": place });
  document.dispatchEvent(new CustomEvent("video-slot", { detail: { slot, id: columns.id[number], number, place } }));
  return slot;
};

const captionCards = (video) => {
  const captions = video.captions || [];
  if (!captions.length) return [h("p", { class: "none" }, (video.facts || {}).no_caption || "No caption.")];
  return captions.map(([by, model, text, score, selected]) =>
    h("div", { class: selected ? "said selected" : "said" },
      h("p", { class: "by" }, h("b", {}, by), model ? ` · ${model}` : "", score === null ? "" : ` · score ${value(score)}`, selected && captions.length > 1 ? " · selected" : ""),
      h("p", { class: "text" }, text || h("span", { class: "none" }, "empty"))));
};

const transcriptOf = (video, seek) => {
  const parts = video.segments || [];
  if (!parts.length) return h("p", { class: "none" }, video.no_transcript || "No transcript.");
  return h("div", { class: "said transcript" }, parts.map(([start, text]) =>
    h("p", { class: "text" }, start === null ? "" : h("button", { class: "time", type: "button", onclick: () => seek(start) }, clock(start)), " ", text)));
};

const factsOf = (number, video) => facts([
  ["Hash", h("code", {}, columns.id[number])],
  ["Also as", (video.files || []).join(", ")],
  ["Picture", video.size && `${video.size[0]} × ${video.size[1]}`],
  ["Frames", video.num_frames && count(video.num_frames)],
  ["Agreement", columns.agreement[number] === null ? null : value(columns.agreement[number])],
  ["Language", columns.language[number]],
  ...Object.entries(video.facts || {}).filter(([name]) => name !== "no_caption").map(([name, said]) => [spelled(name), plain(said)]),
  ["Seen by", video.runs && h("span", {}, video.runs.map(([run, split], place) => [place ? ", " : "", h("a", { href: "#runs", onclick: () => dialog.close() }, block("runs").runs[run].name), ` (${split})`]))],
]);

const showVideo = (number, order) => {
  const video = details(number);
  shownVideo = number;
  const place = order.indexOf(number);
  const step = (by) => { const next = order[place + by]; if (next !== undefined) showVideo(next, order); };
  const film = player(video, picture(number));
  const seek = (seconds) => film.seek(seconds);
  const strip = (video.shots || []).length > 1 && h("ol", { class: "strip", "aria-label": "Frames" }, video.shots.map((shot) => {
    const image = h("img", { src: frameLink(video, shot), alt: "", loading: "lazy", decoding: "async" });
    image.addEventListener("error", () => image.closest("li").remove());
    return h("li", {}, h("button", { type: "button", "aria-label": shot[1] === null ? "Frame" : `To ${clock(shot[1])}`, onclick: () => seek(shot[1] || 0) }, image, shot[1] === null ? null : h("span", {}, clock(shot[1]))));
  }));
  const turn = (by, label, sign) => h("button", { type: "button", class: "round", "aria-label": label, disabled: order[place + by] === undefined, onclick: () => step(by) }, sign);
  dialog.replaceChildren(
    h("div", { class: "video-head" },
      h("h2", { id: "video-title" }, columns.name[number]),
      h("p", { class: "soft" }, place < 0 ? "" : `${count(place + 1)} of ${count(order.length)}`),
      turn(-1, "Previous video", "‹"), turn(1, "Next video", "›"),
      h("button", { type: "button", class: "round", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
    h("div", { class: "video-body" },
      h("div", { class: "watch" }, film, strip),
      h("div", { class: "told" },
        slotOf(number, "video"),
        h("h3", {}, (video.captions || []).length > 1 ? "Captions" : "Caption"), captionCards(video),
        h("h3", {}, "Transcript"), transcriptOf(video, seek),
        h("details", { open: true }, h("summary", {}, "Facts"), factsOf(number, video)))));
  dialog.onkeydown = (event) => {
    if (event.target.closest("input, textarea, select, video, audio") || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") { event.preventDefault(); step(event.key === "ArrowLeft" ? -1 : 1); }
  };
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  history.replaceState(null, "", `#video-${columns.id[number].slice(0, 12)}`);
};

dialog.addEventListener("close", () => {
  dialog.replaceChildren(); // what plays stops
  history.replaceState(null, "", "#gallery");
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

// A link to a video by its hash or the beginning of it; plain text where the gallery lacks it.
const videoLink = (beginning, text) => {
  const number = numberOf(beginning);
  if (number < 0) return h("span", {}, text);
  return h("a", { href: `#video-${columns.id[number].slice(0, 12)}`, onclick: (event) => { event.preventDefault(); showVideo(number, [number]); } }, text);
};
