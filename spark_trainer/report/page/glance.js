// What there is, before anything is opened: figures, and charts whose bars filter the gallery.
const tile = (figure, label, more, attributes = {}) =>
  h(attributes.href ? "a" : "div", { class: `tile ${attributes.class || ""}`, href: attributes.href }, h("b", {}, figure), h("span", {}, label), more ? h("small", {}, more) : null);

const share = (part, whole) => (whole ? `${(100 * part / whole).toFixed(part === whole || !part ? 0 : 1)} %` : "–");

const bars = (chart) => {
  const most = Math.max(...chart.bars.map((bar) => bar.count));
  return h("figure", { class: "chart" }, h("figcaption", {}, chart.title),
    h("ul", { class: "bars" }, chart.bars.map((bar) => {
      const label = `${chart.title}: ${bar.label}`;
      return h("li", {}, h("button", { type: "button", "data-filter": label, "aria-pressed": "false", title: "Show these in the gallery", disabled: !bar.count, onclick: () => { filterBy(label, within(chart.key, bar)); document.getElementById("gallery").scrollIntoView(); } },
        h("span", { class: "label" }, bar.label),
        h("span", { class: "track" }, bar.count ? h("span", { class: "bar", style: { width: `${100 * bar.count / most}%` } }) : null),
        h("span", { class: "number" }, count(bar.count))));
    })));
};

const rejectedCard = (glance) => {
  if (!glance.num_rejected) return null;
  const rows = glance.reasons.map(([step, reason, number]) => [h("b", {}, count(number)), step, reason]);
  const more = glance.kinds_of_reasons - rows.length;
  const listed = glance.rejected.length < glance.num_rejected ? `the first ${count(glance.rejected.length)} of ${count(glance.num_rejected)}` : "all";
  return h("figure", { class: "chart wide", id: "rejected" },
    h("figcaption", {}, `Rejected: ${many(glance.num_rejected, "video")}`),
    table(["Videos", "Step", "Why"], rows, { label: "Reasons for rejection", class: "reasons" }),
    more > 0 ? h("p", { class: "soft" }, `and ${many(more, "other reason")}`) : null,
    h("details", { ontoggle: (event) => {
      const body = event.target.querySelector(".files");
      if (event.target.open && !body.childElementCount) body.append(table(["File", "Step", "Why"], glance.rejected, { label: "Rejected files" }));
    } }, h("summary", {}, `Files (${listed})`), h("div", { class: "files" })));
};

const missingCard = (glance) => glance.without.length
  ? h("figure", { class: "chart" }, h("figcaption", {}, "Without a text, and why"),
    table(["Videos", "Text", "Why"], glance.without.map(([kind, why, number]) => [h("b", {}, count(number)), kind, why]), { label: "Videos without a text" }))
  : null;

// Tags are names of objects: they are counted apart from captions.
const captionedTile = (sum) => {
  const [all, tags] = [sum.captioned || 0, sum.tagged || 0];
  if (tags && tags === all) return tile(share(tags, sum.videos), "tagged", "names of objects, no captions");
  return tile(share(all, sum.videos), "captioned", `${many(all, "caption")}${tags ? `, ${count(tags)} of them tags` : ""}`);
};

const captionersCard = (glance) => {
  const rows = Object.entries(glance.captioners);
  return rows.length > 1
    ? h("figure", { class: "chart" }, h("figcaption", {}, "Captioners"),
      table(["Captioner", "Captions", "Words each", "Selected"], rows.map(([name, one]) => [name, count(one.videos), one.words.toFixed(1), share(one.selected, one.videos)]), { label: "Captioners" }))
    : null;
};

const drawGlance = () => {
  const glance = block("glance");
  const sum = glance.totals;
  const since = block("since");
  const runs = block("runs").runs;
  const [long, mean] = [span(sum.seconds), sum.videos ? span(sum.seconds / sum.videos) : "–"];
  fill("glance", info.name,
    h("p", { class: "lead" }, `Made ${day(info.made)} · manifest `, h("code", {}, info.manifest.slice(0, 12))),
    since ? h("a", { class: "note", href: "#since" }, h("b", {}, "Since the report before: "), sinceWords(since)) : null,
    h("div", { class: "tiles" },
      tile(count(sum.videos), sum.videos === 1 ? "video" : "videos", `${many(sum.files || 0, "file")}${sum.bytes ? `, ${bytes(sum.bytes)}` : ""}`, { href: "#gallery" }),
      tile(long, "of video", `${mean} each, ${many(sum.frames || 0, "frame")}`),
      captionedTile(sum),
      tile(count(sum.spoken || 0), "words spoken", `in ${many(sum.transcribed || 0, "video")}${glance.languages ? `, ${many(glance.languages, "language")}` : ""}`),
      tile(count(glance.num_rejected), "rejected", glance.num_rejected ? many(glance.kinds_of_reasons, "reason") : "none", { class: glance.num_rejected ? "bad" : "", href: glance.num_rejected ? "#rejected" : null }),
      sum.damaged ? tile(count(sum.damaged), "damaged", "used in part") : null,
      tile(count(runs.length), runs.length === 1 ? "run" : "runs", runs.length ? `${count(runs.filter((run) => run.finished).length)} finished` : "none yet", { href: "#runs" })),
    h("div", { class: "charts" }, glance.charts.filter((chart) => chart.bars.length).map(bars), captionersCard(glance), missingCard(glance), rejectedCard(glance)));
  return glance.charts;
};
