// Runs beside each other. Which are chosen decides all that is shown below the list.
const MOST_CHOSEN = 6; // at first

const scored = (run) => {
  const [first, last, best] = run.values;
  const change = first === null || last === null || first === undefined ? "–" : `${value(first)} → ${value(last)}`;
  return { change, best: best === null || best === undefined ? "–" : `${value(best)}${run.best_step === undefined || run.best_step === null ? "" : ` at ${count(run.best_step)}`}` };
};

// The best of the runs that can be compared: of one kind, over the same data.
const bestOf = (runs) => {
  const alike = new Map();
  for (const run of runs) {
    const kind = [run.objective.metric, run.parameters.model_type, run.manifest].join(" ");
    if (typeof run.values[2] === "number") alike.set(kind, [...(alike.get(kind) || []), run]);
  }
  const better = (a, b) => (a.objective.better === "lower" ? a.values[2] <= b.values[2] : a.values[2] >= b.values[2]);
  return new Set([...alike.values()].filter((some) => some.length > 1).map((some) => some.reduce((lead, run) => (better(lead, run) ? lead : run))));
};

const differing = (runs) => {
  const keys = [...new Set(runs.flatMap((run) => Object.keys(run.parameters)))].sort();
  return keys.filter((key) => new Set(runs.map((run) => JSON.stringify(run.parameters[key]))).size > 1);
};

const startRuns = () => {
  const { runs, left_out: leftOut } = block("runs");
  const complaints = leftOut.length ? h("details", { class: "soft" }, h("summary", {}, `${many(leftOut.length, "run")} left out`), leftOut.map((why) => h("p", {}, why))) : null;
  if (!runs.length) {
    fill("runs", "Runs", h("p", { class: "none" }, "No run yet. ", h("code", {}, "snakemake train"), " trains those of the configuration; the next report has their curves."), complaints);
    return;
  }
  runs.forEach((run, place) => { run.place = place; });
  const chosen = new Set(runs.slice(-MOST_CHOSEN));
  const best = bestOf(runs);
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))];
  const first = runs.at(-1).objective.metric;
  const state = { metric: metrics.includes(first) ? first : metrics[0], log: false, smooth: 0, all: false };
  const figure = h("figure", { class: "curves" });
  const samples = h("div");
  const settings = h("div");
  const list = () => runs.filter((run) => chosen.has(run));

  const curves = () => drawCurves(figure, list().filter((run) => run.curves[state.metric]).map((run) => ({ name: run.name, place: run.place, steps: run.curves[state.metric][0], values: run.curves[state.metric][1], means: run.curves[state.metric][2] })), { ...state, label: state.metric });
  const drawSettings = () => {
    const shown = list();
    const keys = state.all ? [...new Set(shown.flatMap((run) => Object.keys(run.parameters)))].sort() : differing(shown);
    settings.replaceChildren(
      h("label", { class: "check" }, h("input", { type: "checkbox", checked: state.all, onchange: (event) => { state.all = event.target.checked; drawSettings(); } }), " all settings, not only those that differ"),
      keys.length ? table(["Setting", ...shown.map((run) => run.name)], keys.map((key) => [h("code", {}, key), ...shown.map((run) => plain(run.parameters[key]))]), { label: "Settings" })
        : h("p", { class: "none" }, shown.length > 1 ? "The chosen runs have the same settings." : "Choose two runs to see what differs."));
  };
  const draw = () => { curves(); drawSamples(samples, list()); drawSettings(); };

  const scores = [...new Set(runs.flatMap((run) => Object.keys(run.scores)))];
  const objectives = [...new Set(runs.map((run) => run.objective.words))];
  const objective = objectives.length === 1 ? objectives[0] : "objective";
  const rows = runs.map((run) => {
    const { change, best: top } = scored(run);
    return [
      h("label", { class: "run" }, h("input", { type: "checkbox", checked: chosen.has(run), onchange: (event) => { if (event.target.checked) chosen.add(run); else chosen.delete(run); draw(); } }), h("i", { class: `key hue-${run.place % HUES}` }), h("span", {}, run.name), best.has(run) ? h("span", { class: "tag best" }, "best") : null),
      objectives.length === 1 ? change : `${run.objective.words} ${change}`, top,
      ...scores.map((name) => { const pair = run.scores[name]; return !pair ? "–" : pair[0] === null || pair[0] === undefined ? value(pair[1]) : `${value(pair[0])} → ${value(pair[1])}`; }),
      `${count(run.steps)}${run.max_steps && run.max_steps !== run.steps ? ` of ${count(run.max_steps)}` : ""}`,
      run.finished ? "finished" : h("span", { class: "doubt" }, "unfinished"),
      count(run.videos), h("code", {}, run.manifest.slice(0, 8)), day(run.started)];
  });
  const select = h("select", { "aria-label": "Curve", onchange: (event) => { state.metric = event.target.value; curves(); } }, metrics.map((metric) => option(metric, spelled(metric), metric === state.metric)));
  fill("runs", "Runs", complaints,
    table(["Run", spelled(objective), "Best", ...scores.map(spelled), "Updates", "State", "Videos", "Data", "Started"], rows, { label: "Runs", class: "runs" }),
    h("div", { class: "panel" },
      h("div", { class: "tools" }, select,
        h("label", { class: "check" }, h("input", { type: "checkbox", onchange: (event) => { state.log = event.target.checked; curves(); } }), " log scale"),
        h("label", { class: "check" }, h("input", { type: "checkbox", onchange: (event) => { state.smooth = event.target.checked ? 0.9 : 0; curves(); } }), " smooth")),
      figure),
    h("h3", {}, "Held-out samples, before and after"), samples,
    h("h3", {}, "Settings"), settings);
  draw();
  let width = 0;
  new ResizeObserver(() => { if (figure.clientWidth !== width) { width = figure.clientWidth; curves(); } }).observe(figure);
};
