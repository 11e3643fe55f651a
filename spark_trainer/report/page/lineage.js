// Who made the texts, and which run comes from which.
const STEP_WORDS = { select: "caption", hand: "corrections by hand", name: "name or place", paths: "files" };

const revision = (text) => (/^[0-9a-f]{40,}$/.test(text) ? h("code", { title: text }, text.slice(0, 12)) : text);

const originOf = (run) => {
  const split = Object.entries(run.videos).sort().map(([name, number]) => `${count(number)} ${name}`).join(", ");
  const packages = Object.entries(run.packages || {}).map(([name, version]) => `${name} ${version}`).join(", ");
  const made = Object.entries(run.made_by || {}).map(([step, one]) => h("li", {}, h("b", {}, step), ` ${one.fingerprint} `, one.settings ? h("span", { class: "soft" }, Object.entries(one.settings).filter(([, said]) => said !== null && said !== "" && !(Array.isArray(said) && !said.length)).map(([name, said]) => `${name}: ${plain(said)}`).join(", ")) : h("span", { class: "none" }, "this store has no settings of it")));
  const counted = (kind) => Object.entries(run[kind] || {}).map(([who, number]) => `${count(number)} by ${who}`).join("; ");
  return facts([
    ["Videos", split], ["Manifest", h("code", {}, run.manifest_sha256.slice(0, 16))],
    ["Captions", counted("captions")], ["Transcripts", counted("transcripts")],
    ["Code", [`SparkTrainer ${run.spark_trainer ?? ""}`, run.code, run.code_diff && "with changes that code.diff has"].filter(Boolean).join(", ")],
    ["Python", run.python], ["Packages", packages],
    ["Hardware", [run.machine, run.device, many(run.processes || 1, "process", "processes"), (run.gpus || []).join(", ")].filter(Boolean).map(plain).join(", ")],
    ["Steps", made.length ? h("ul", { class: "plain" }, made) : null],
  ]);
};

// Runs as a tree: below each run those that come from it; one that has two parents stands below both.
const tree = (names, links, runs) => {
  const children = (name) => links.filter((link) => link.earlier === name);
  const known = new Map(runs.map((run) => [run.run, run]));
  const branch = (name, how, above) => {
    const run = known.get(name);
    return h("li", {},
      run ? h("details", {}, h("summary", {}, h("b", {}, name), h("span", { class: "soft" }, `${how ? ` ${how}` : ""} · ${many(Object.values(run.videos).reduce((a, b) => a + b, 0), "video")}${run.finished ? "" : " · unfinished"}`)), originOf(run)) : h("span", { class: "none" }, `${name}, whose folder is gone`),
      above.has(name) ? null : h("ul", {}, children(name).map((link) => branch(link.later, `${link.how} ${name}`, new Set([...above, name])))));
  };
  return h("ul", { class: "tree" }, names.map((name) => branch(name, null, new Set())));
};

const drawLineage = () => {
  const { makers, links, runs } = block("lineage");
  const later = new Set(links.map((link) => link.later));
  const gone = [...new Set(links.map((link) => link.earlier))].filter((name) => !runs.some((run) => run.run === name));
  const roots = [...gone, ...runs.map((run) => run.run).filter((name) => !later.has(name))];
  const rows = makers.map(([kind, who, model, from, prompt, number]) => [`${count(number)} ${kind}`, who, model || "–", revision(from) || "–", prompt || "–"]);
  fill("lineage", "Lineage",
    h("h3", {}, "Who wrote the texts"),
    rows.length ? table(["Texts", "By", "Model", "Revision", "Prompt"], rows, { label: "Who wrote the texts" }) : h("p", { class: "none" }, "No captions and no transcripts."),
    h("h3", {}, "Which run comes from which"),
    runs.length ? tree(roots, links, runs) : h("p", { class: "none" }, "No run yet."));
};
