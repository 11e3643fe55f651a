// Curves of several runs over each other: a picture of lines, and a cursor that reads them.
const HUES = 8; // colours of lines in the style sheet; after them lines are dashed
const lineClass = (place) => `line hue-${place % HUES}${place >= HUES ? " dashed" : ""}`;

const nice = (low, high, wantedTicks) => {
  const raw = (high - low) / wantedTicks || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const ticks = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) ticks.push(+at.toPrecision(12));
  return ticks;
};

const decades = (low, high) => {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const one of [1, 2, 5]) if (one * 10 ** power >= low && one * 10 ** power <= high) ticks.push(+(one * 10 ** power).toPrecision(12));
  }
  return ticks;
};

// A mean that forgets: each point is worth as much as all later ones change it.
const smoothed = (values, share) => {
  let mean = 0;
  let weight = 0;
  return values.map((one) => {
    mean = share * mean + (1 - share) * one;
    weight = share * weight + (1 - share);
    return mean / weight;
  });
};

const nearest = (steps, at) => {
  let [low, high] = [0, steps.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= at) low = middle; else high = middle;
  }
  return Math.abs(steps[low] - at) <= Math.abs(steps[high] - at) ? low : high;
};

const pathOf = (steps, values, x, y) => values.map((one, i) => `${i ? "L" : "M"}${x(steps[i]).toFixed(1)} ${y(one).toFixed(1)}`).join("");

// Draw lines [{name, place, steps, values, means}] into a figure; `log` and `smooth` say how.
const drawCurves = (figure, lines, { log, smooth, label }) => {
  const width = Math.max(280, figure.clientWidth || 600);
  const height = Math.round(Math.min(380, Math.max(220, width * 0.48)));
  const [left, right, top, bottom] = [54, 12, 12, 30];
  const drawn = lines.map((line) => {
    const kept = line.values.map((one, i) => [line.steps[i], one, (line.means || line.values)[i]]).filter(([, one]) => !log || one > 0);
    const raw = kept.map(([, one]) => one);
    return { ...line, steps: kept.map(([step]) => step), raw, values: smooth ? smoothed(kept.map(([, , mean]) => mean), smooth) : raw };
  }).filter((line) => line.values.length);
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  if (!drawn.length) {
    figure.replaceChildren(h("p", { class: "none" }, "No run that is chosen has this curve."), readout);
    return;
  }
  const every = drawn.flatMap((line) => (smooth ? [...line.values, ...line.raw] : line.values));
  let [low, high] = [Math.min(...every), Math.max(...every)];
  const first = Math.min(...drawn.map((line) => line.steps[0]));
  const last = Math.max(...drawn.map((line) => line.steps.at(-1)), first + 1);
  const margin = log ? (high / low) ** 0.05 : (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  [low, high] = log ? [low / margin, high * margin] : [low - margin, high + margin];
  const scale = log ? Math.log10 : (one) => one;
  const x = (step) => left + ((step - first) / (last - first)) * (width - left - right);
  const y = (one) => height - bottom - ((scale(one) - scale(low)) / (scale(high) - scale(low) || 1)) * (height - top - bottom);
  const ticks = (log && decades(low, high).length > 1 ? decades(low, high) : nice(low, high, 5)).filter((tick) => !log || tick > 0);
  const cursor = svg("g", { class: "cursor", visibility: "hidden" });
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", tabindex: 0, "aria-label": `${label} by update; arrow keys move a cursor` },
    ticks.map((tick) => svg("g", { class: "tick" }, svg("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick) }), svg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, value(tick)))),
    nice(first, last, Math.max(3, Math.round(width / 140))).filter((tick) => Number.isInteger(tick)).map((tick) => svg("g", { class: "tick" }, svg("text", { x: x(tick), y: height - 10, "text-anchor": "middle" }, count(tick)))),
    smooth ? drawn.map((line) => svg("path", { class: `${lineClass(line.place)} faint`, d: pathOf(line.steps, line.raw, x, y) })) : null,
    drawn.map((line) => svg("path", { class: lineClass(line.place), d: pathOf(line.steps, line.values, x, y) })),
    drawn.filter((line) => line.values.length < 30).map((line) => line.values.map((one, i) => svg("circle", { class: `dot hue-${line.place % HUES}`, cx: x(line.steps[i]), cy: y(one), r: 2.5 }))),
    cursor);
  let at = last;
  const read = (step) => {
    at = Math.min(last, Math.max(first, Math.round(step)));
    const points = drawn.filter((line) => at >= line.steps[0] && at <= line.steps.at(-1)).map((line) => [line, nearest(line.steps, at)]);
    cursor.setAttribute("visibility", "visible");
    cursor.replaceChildren(svg("line", { x1: x(at), x2: x(at), y1: top, y2: height - bottom }), ...points.map(([line, i]) => svg("circle", { class: `dot hue-${line.place % HUES}`, cx: x(line.steps[i]), cy: y(line.values[i]), r: 4 })));
    readout.replaceChildren(h("b", {}, `Update ${count(at)}`), ...points.map(([line, i]) => h("span", {}, h("i", { class: `key hue-${line.place % HUES}` }), `${line.name} ${value(line.values[i])}`)));
  };
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    read(first + ((event.clientX - box.left) * (width / box.width) - left) / (width - left - right) * (last - first));
  });
  chart.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); read(at + by * Math.max(1, Math.round((last - first) / 100))); }
  });
  figure.replaceChildren(chart, readout);
  readout.append(h("span", {}, "Updates run to the right. Point at the curves to read them."));
};
