// The gallery: what is searched for, filtered and sorted is a list of numbers, of which a page is shown.
const ORDERS = {
  doubt: ["Least agreement first", (a, b) => (columns.agreement[a] ?? 2) - (columns.agreement[b] ?? 2)],
  manifest: ["Order of the manifest", (a, b) => (columns.id[a] < columns.id[b] ? -1 : 1)],
  name: ["Name", (a, b) => columns.name[a].localeCompare(columns.name[b], "en", { numeric: true })],
  long: ["Longest first", (a, b) => (columns.seconds[b] ?? -1) - (columns.seconds[a] ?? -1)],
  short: ["Shortest first", (a, b) => (columns.seconds[a] ?? Infinity) - (columns.seconds[b] ?? Infinity)],
  wordy: ["Most words in the caption", (a, b) => columns.words[b] - columns.words[a]],
  terse: ["Fewest words in the caption", (a, b) => columns.words[a] - columns.words[b]],
  talk: ["Most words spoken", (a, b) => columns.spoken[b] - columns.spoken[a]],
};
const ranked = columns.agreement.some((agreement) => agreement !== null);
const wanted = { text: "", order: ranked ? "doubt" : "manifest", filters: new Map(), page: 0, size: 24 };
let found = [];

// What a bar of a chart, or an entry of the list of filters, asks of a video.
const within = (key, bar) => {
  const column = columns[key];
  if (bar.is !== undefined) return (number) => column[number] === bar.is;
  return (number) => column[number] !== null && column[number] >= bar.from && (bar.to === null || column[number] < bar.to);
};

const EXTRA = [
  ["Without a caption", (number) => !columns.words[number]],
  ["Without speech", (number) => !columns.spoken[number]],
  ["Damaged, used in part", (number) => columns.damaged[number] === 1],
].filter(([, test]) => columns.id.some((id, number) => test(number)));

const search = () => {
  const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
  const tests = [...wanted.filters.values()];
  found = columns.id.map((id, number) => number).filter((number) => tests.every((test) => test(number)) && (!words.length || holds(number, words)));
  found.sort(ORDERS[wanted.order][1]);
  wanted.page = 0;
  drawGallery();
};

const filterBy = (label, test) => {
  if (wanted.filters.has(label)) wanted.filters.delete(label);
  else wanted.filters.set(label, test);
  search();
};

const card = (number) => {
  const small = picture(number);
  const video = details(number);
  const image = small ? h("img", { src: small, alt: "", decoding: "async" }) : h("span", { class: "no-picture" }, "no picture");
  const caption = chosenCaption(number);
  return h("article", { class: "card" },
    h("button", { type: "button", class: "open", onclick: () => showVideo(number, found) },
      h("span", { class: "frame" }, image,
        columns.seconds[number] === null ? null : h("span", { class: "badge" }, clock(columns.seconds[number])),
        columns.damaged[number] ? h("span", { class: "badge bad" }, "damaged") : null),
      h("span", { class: "name" }, columns.name[number]),
      h("span", { class: caption ? "caption" : "caption none" }, caption || (video.facts || {}).no_caption || "no caption"),
      video.segments ? h("span", { class: "speech" }, `“${spoken(number)}”`) : null,
      h("span", { class: "tags" },
        columns.agreement[number] === null ? null : h("span", { class: columns.agreement[number] < 0.3 ? "tag doubt" : "tag" }, `agreement ${columns.agreement[number].toFixed(2)}`),
        columns.language[number] ? h("span", { class: "tag" }, columns.language[number]) : null)),
    slotOf(number, "card"));
};

const chips = h("div", { class: "chips" });
const tally = h("p", { class: "soft", role: "status" });
const grid = h("div", { class: "grid" });
const pager = h("nav", { class: "pager", "aria-label": "Pages of the gallery" });

const turnTo = (page) => {
  wanted.page = page;
  drawGallery();
  document.getElementById("gallery").scrollIntoView();
};

const drawGallery = () => {
  const last = Math.max(0, Math.ceil(found.length / wanted.size) - 1);
  const from = wanted.page * wanted.size;
  chips.replaceChildren(...[...wanted.filters.keys()].map((label) => h("button", { type: "button", class: "chip", "aria-label": `Remove the filter ${label}`, onclick: () => filterBy(label) }, label, h("span", { "aria-hidden": "true" }, " ×"))));
  const part = numVideos < info.total ? `; the page has ${count(numVideos)} of ${count(info.total)}${ranked ? ", those whose captions agree least" : ""}` : "";
  tally.textContent = found.length === numVideos ? `${many(numVideos, "video")}${part}` : `${count(found.length)} of ${many(numVideos, "video")}${part}`;
  grid.replaceChildren(...found.slice(from, from + wanted.size).map(card));
  if (!found.length) grid.append(h("p", { class: "none" }, numVideos ? "Nothing fits. Take a filter back, or search for something else." : "The manifest has no video."));
  pager.hidden = last === 0;
  const button = (label, page, sign) => h("button", { type: "button", class: "round", "aria-label": label, disabled: page < 0 || page > last || page === wanted.page, onclick: () => turnTo(page) }, sign);
  pager.replaceChildren(button("First page", 0, "«"), button("Previous page", wanted.page - 1, "‹"),
    h("span", { class: "soft" }, `Page ${count(wanted.page + 1)} of ${count(last + 1)}`),
    button("Next page", wanted.page + 1, "›"), button("Last page", last, "»"));
  document.querySelectorAll("[data-filter]").forEach((bar) => bar.setAttribute("aria-pressed", wanted.filters.has(bar.dataset.filter)));
};

const option = (key, label, selected) => h("option", { value: key, selected }, label);

const startGallery = (charts) => {
  const choices = new Map(EXTRA);
  const groups = charts.filter((chart) => chart.bars.length > 1).map((chart) => {
    const labels = chart.bars.filter((bar) => bar.count).map((bar) => {
      const label = `${chart.title}: ${bar.label}`;
      choices.set(label, within(chart.key, bar));
      return option(label, bar.label);
    });
    return h("optgroup", { label: chart.title }, labels);
  });
  const names = [...new Set(columns.captioner.filter(Boolean))].sort();
  if (names.length > 1) {
    groups.push(h("optgroup", { label: "Selected captioner" }, names.map((name) => {
      choices.set(`Captioner: ${name}`, (number) => columns.captioner[number] === name);
      return option(`Captioner: ${name}`, name);
    })));
  }
  let timer = 0;
  const box = h("input", { type: "search", id: "search", placeholder: "Search names, captions, transcripts", "aria-label": "Search videos", autocomplete: "off", oninput: (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => { wanted.text = event.target.value; search(); }, 150);
  } });
  const filter = h("select", { "aria-label": "Add a filter", onchange: (event) => {
    const label = event.target.value;
    event.target.value = "";
    if (label && !wanted.filters.has(label)) filterBy(label, choices.get(label));
  } }, option("", "Filter…", true), EXTRA.map(([label]) => option(label, label)), groups);
  const order = h("select", { "aria-label": "Order", onchange: (event) => { wanted.order = event.target.value; search(); } },
    Object.entries(ORDERS).filter(([key]) => key !== "doubt" || ranked).map(([key, [label]]) => option(key, label, key === wanted.order)));
  const size = h("select", { class: "size", "aria-label": "Videos on a page", onchange: (event) => { wanted.size = +event.target.value; wanted.page = 0; drawGallery(); } },
    [24, 48, 96].map((number) => option(number, `${number} a page`, number === wanted.size)));
  fill("gallery", "Gallery", h("div", { class: "tools" }, box, filter, order, size), chips, tally, grid, pager,
    h("p", { class: "soft keys" }, h("kbd", {}, "/"), " search ", h("kbd", {}, "←"), " ", h("kbd", {}, "→"), " move ", h("kbd", {}, "Enter"), " open ", h("kbd", {}, "Esc"), " close"));
  grid.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const cards = [...grid.querySelectorAll(".open")];
    const next = cards[cards.indexOf(document.activeElement) + by];
    if (by && next) { event.preventDefault(); next.focus(); }
  });
  search();
};
