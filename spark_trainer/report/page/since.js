// What changed since the report before this one.
const KINDS = { added: "added", removed: "removed" };
const changeWords = (kind) => KINDS[kind] || `other ${STEP_WORDS[kind] || kind}`;

const runChanges = (since) => {
  const fresh = Object.keys(since.runs).filter((name) => !(name in since.runs_before));
  const went = Object.keys(since.runs).filter((name) => name in since.runs_before);
  return [["new", fresh], ["went on", went], ["gone", since.runs_gone]].filter(([, names]) => names.length);
};

const sinceWords = (since) => {
  const data = Object.entries(since.data || {}).map(([kind, [number]]) => `${many(number, "video")} ${kind in KINDS ? KINDS[kind] : `with ${changeWords(kind)}`}`);
  if (!since.data) data.push(`${count(since.videos[0])} → ${many(since.videos[1], "video")}`);
  const runs = runChanges(since).map(([how, names]) => `${many(names.length, "run")} ${how}`);
  return [...data, ...runs].join(", ") || "nothing changed";
};

const drawSince = () => {
  const since = block("since");
  if (!since) {
    fill("since", "Changes", h("p", { class: "none" }, "This is the first report of this store. The next one tells what changed."));
    return;
  }
  const videosOf = Object.entries(since.data || {}).map(([kind, [number, names]]) =>
    h("details", { open: number <= 12 }, h("summary", {}, h("b", {}, count(number)), ` ${number === 1 ? "video" : "videos"} ${kind in KINDS ? KINDS[kind] : `with ${changeWords(kind)}`}`),
      h("ul", { class: "names" }, names.map((name) => {
        const [hash, ...rest] = name.split(" ");
        return h("li", {}, videoLink(kind === "removed" ? "-" : hash, rest.join(" ") || hash), rest.length ? h("code", {}, ` ${hash}`) : null);
      })), number > names.length ? h("p", { class: "soft" }, `and ${count(number - names.length)} more`) : null));
  const runs = runChanges(since).map(([how, names]) => h("details", { open: true }, h("summary", {}, h("b", {}, count(names.length)), ` ${names.length === 1 ? "run" : "runs"} ${how}`),
    h("ul", { class: "names" }, names.map((name) => {
      const [now, before] = [since.runs[name], since.runs_before[name]];
      return h("li", {}, name, now ? h("span", { class: "soft" }, ` ${before ? `${count(before[0])} → ` : ""}${many(now[0], "update")}${now[1] ? ", finished" : ""}`) : null);
    }))));
  fill("since", "Changes",
    h("p", { class: "lead" }, `Since the report of ${day(since.made)}: ${count(since.videos[0])} → ${many(since.videos[1], "video")}.`),
    since.data ? null : h("p", { class: "none" }, "The manifest of that report is no longer kept, so its videos can't be compared one by one."),
    since.data && !videosOf.length ? h("p", { class: "none" }, "The videos are the same.") : null,
    h("div", { class: "changes" }, videosOf, runs));
};
