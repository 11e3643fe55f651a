"use strict";

// Every element of the page is made here. Texts become text nodes, so that none can be markup.
const element = (space) => (tag, attributes = {}, ...children) => {
  const made = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) made.style.setProperty(key, one);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
};
const h = element(null);
const svg = element("http://www.w3.org/2000/svg");

const count = (number) => number.toLocaleString("en");

const many = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;

const clock = (seconds) => {
  const tenths = Math.round(seconds * 10);
  const minutes = Math.floor(tenths / 600);
  const rest = `${String(Math.floor((tenths % 600) / 10)).padStart(2, "0")}${tenths % 10 ? `.${tenths % 10}` : ""}`;
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
};

const span = (seconds) =>
  seconds < 120 ? `${seconds.toFixed(seconds && seconds < 10 ? 1 : 0)} s`
    : seconds < 7200 ? `${(seconds / 60).toFixed(seconds < 600 ? 1 : 0)} min` : `${(seconds / 3600).toFixed(1)} h`;

const bytes = (number) => {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (number >= 1000 && unit < units.length - 1) [number, unit] = [number / 1000, unit + 1];
  return `${unit ? number.toFixed(1) : number} ${units[unit]}`;
};

const value = (number) =>
  number === null || number === undefined ? "–"
    : typeof number !== "number" ? String(number)
      : Number.isInteger(number) ? count(number)
        : String(+number.toPrecision(4));

const day = (seconds) => new Date(seconds * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

const plain = (thing) => (thing === null || thing === undefined ? "–" : typeof thing === "object" ? JSON.stringify(thing) : typeof thing === "number" ? value(thing) : String(thing));

// A key of the data as words: `learning_rate` is Learning rate, `wer_raw` is WER raw.
const PROPER = { bleu: "BLEU", cider: "CIDEr", wer: "WER", cer: "CER", fps: "FPS", gpu: "GPU", cpu: "CPU" };
const spelled = (key) => {
  const words = key.replaceAll("_", " ").replaceAll("held out", "held-out").replace("rouge l", "ROUGE-L").split(" ").map((word) => PROPER[word] || word).join(" ");
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}`;
};

// A heading with its section's id, and what stands below it.
const fill = (id, title, ...children) => {
  const section = document.getElementById(id);
  section.replaceChildren(h(id === "glance" ? "h1" : "h2", { id: `${id}-title` }, title), ...children.flat().filter(Boolean));
  return section;
};

const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter(([, said]) => said !== null && said !== undefined && said !== "").map(([name, said]) => [h("dt", {}, name), h("dd", {}, said)]));

const table = (heads, rows, attributes = {}) =>
  h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": attributes.label || "table" },
    h("table", { class: attributes.class },
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, place) => h(place ? "td" : "th", place ? {} : { scope: "row" }, cell)))))));
