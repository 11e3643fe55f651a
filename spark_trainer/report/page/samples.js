// What runs made of the same held-out samples, before and after.
const sampleKey = (sample) => `${sample.video} ${sample.start ?? ""} ${sample.prompt ?? ""}`;

const made = (sample) => {
  if (!sample) return h("p", { class: "none" }, "not among its samples");
  if (sample.file) return h("video", { src: sample.file, controls: true, loop: true, muted: true, preload: "metadata", playsinline: true });
  const right = sample.text === sample.reference;
  return h("div", {},
    h("p", { class: right ? "text right" : "text" }, sample.text || h("span", { class: "none" }, "empty")),
    sample.edits ? h("p", { class: "edits" }, plain(sample.edits)) : null,
    sample.reward === undefined ? null : h("p", { class: "soft" }, `reward ${value(sample.reward)}`));
};

const drawSamples = (place, chosen) => {
  const shown = chosen.filter((run) => run.samples.length);
  const keys = new Map();
  for (const run of shown) for (const one of run.samples.at(-1).samples) if (!keys.has(sampleKey(one))) keys.set(sampleKey(one), one);
  if (!keys.size) {
    place.replaceChildren(h("p", { class: "none" }, shown.length || !chosen.length ? "Choose a run to see its samples." : "The chosen runs showed no samples (num_samples)."));
    return;
  }
  const find = (list, key) => list && list.samples.find((one) => sampleKey(one) === key);
  const column = (run) => {
    const lists = run.samples;
    let at = lists.length - 1;
    return { run, lists, get after() { return lists[at]; }, set: (next) => { at = next; } };
  };
  const columns_ = shown.map(column);
  const cards = h("div", { class: "samples" });
  const draw = () => cards.replaceChildren(...[...keys].map(([key, sample]) => {
    const number = sample.video ? numberOf(sample.video) : -1;
    const still = number >= 0 ? picture(number) : null;
    const name = number >= 0 ? columns.name[number] : (sample.video || "").slice(0, 12);
    return h("article", { class: "sample" },
      h("div", { class: "about" }, still ? h("img", { src: still, alt: "" }) : null,
        h("div", {}, h("p", { class: "name" }, sample.video ? videoLink(sample.video, name) : name, sample.start ? ` at ${clock(sample.start)}` : ""),
          sample.prompt ? h("p", { class: "soft text" }, sample.prompt) : null,
          sample.reference ? h("p", { class: "text" }, h("span", { class: "by" }, "Reference "), sample.reference) : null)),
      h("div", { class: "sides" }, columns_.map((one) => {
        const [before, after] = [find(one.lists[0], key), find(one.after, key)];
        if (!before && !after) return null; // a run over other videos never had it
        return h("div", { class: "side" }, h("h4", {}, h("i", { class: `key hue-${one.run.place % HUES}` }), one.run.name),
          h("div", { class: "pair" },
            one.after.step > one.lists[0].step ? h("div", {}, h("p", { class: "by" }, one.lists[0].step ? `Update ${count(one.lists[0].step)}` : "Before training"), made(before)) : null,
            h("div", {}, h("p", { class: "by" }, `Update ${count(one.after.step)}`), made(after))));
      })));
  }));
  const controls = columns_.filter((one) => one.lists.length > 2).map((one) =>
    h("label", {}, h("i", { class: `key hue-${one.run.place % HUES}` }), `${one.run.name} at `, h("select", { onchange: (event) => { one.set(+event.target.value); draw(); } },
      one.lists.map((list, i) => i > 0 && option(i, `update ${count(list.step)}`, i === one.lists.length - 1)))));
  const pages = columns_.filter((one) => one.after.page).map((one) => h("a", { href: one.after.page }, `all answers of ${one.run.name}`));
  place.replaceChildren(controls.length ? h("div", { class: "tools" }, controls) : "", pages.length ? h("p", { class: "soft" }, pages.flatMap((link, i) => (i ? [" · ", link] : [link]))) : "", cards);
  draw();
};
