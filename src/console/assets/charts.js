// Small SVG charts. They show what the numbers beside them say, and have a text for those who do not see them.

const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Returns a label of an axis. */
function label(x, y, anchor, text) {
  const made = shape("text", { x, y, "text-anchor": anchor, class: "axis" });
  made.textContent = text;
  return made;
}

/** Returns the least of 1, 2, 5, 10, … that is not below a value. */
function nice(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const clock = (millis) => new Date(millis).toISOString().slice(11, 16);

/**
 * Returns a chart of stacked bars over time. `series` is a list of { name, values }, the first at the bottom; its colours are
 * those of the classes series-NAME. `unit` names what is counted.
 */
export function bars(title, unit, from, step, series) {
  const [width, height, left, bottom, top] = [640, 136, 44, 20, 14];
  const points = series[0]?.values.length ?? 0;
  const sums = Array.from({ length: points }, (_, at) => series.reduce((sum, one) => sum + one.values[at], 0));
  const greatest = nice(Math.max(0, ...sums));
  const plot = { width: width - left - 4, height: height - bottom - top };
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "chart", preserveAspectRatio: "none" });
  const total = (one) => one.values.reduce((sum, value) => sum + value, 0);
  const described = series.map((one) => `${one.name} ${total(one)}`).join(", ");
  svg.setAttribute("aria-label", `${title}, ${unit}: ${described}, since ${clock(from)} UTC`);
  for (const share of [0, 0.5, 1]) {
    const y = top + plot.height * (1 - share);
    svg.append(shape("line", { x1: left, x2: width - 4, y1: y, y2: y, class: "grid" }));
    if (share > 0) svg.append(label(left - 6, y + 4, "end", short.format(greatest * share)));
  }
  const wide = plot.width / Math.max(1, points);
  const base = new Array(points).fill(0);
  for (const one of series) {
    // One path for a series: a page with thousands of elements would be slow.
    let path = "";
    one.values.forEach((value, at) => {
      if (value > 0) {
        const x = left + at * wide;
        const y = top + plot.height * (1 - (base[at] + value) / greatest);
        path += `M${x.toFixed(1)} ${y.toFixed(1)}h${Math.max(0.8, wide * 0.86).toFixed(1)}v${((plot.height * value) / greatest).toFixed(2)}h-${Math.max(0.8, wide * 0.86).toFixed(1)}z`;
      }
      base[at] += value;
    });
    if (path) svg.append(shape("path", { d: path, class: `series-${one.name.replaceAll(" ", "-")}` }));
  }
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    svg.append(label(left + plot.width * share, height - 5, anchor, clock(from + share * step * points)));
  }
  return svg;
}

/** Returns a bar from 0 to 1, with an optional mark. */
export function share(value, mark) {
  const svg = shape("svg", { viewBox: "0 0 100 8", class: "share", "aria-hidden": "true", preserveAspectRatio: "none" });
  svg.append(shape("rect", { x: 0, y: 2, width: 100, height: 4, class: "track" }));
  const wide = Math.max(0, Math.min(1, value || 0)) * 100;
  svg.append(shape("rect", { x: 0, y: 2, width: wide, height: 4, class: "fill" }));
  if (mark !== undefined && mark !== null) svg.append(shape("rect", { x: mark * 100 - 0.6, y: 0, width: 1.2, height: 8, class: "mark" }));
  return svg;
}

/** Returns a bar that begins in the middle: to the right for positive values, to the left for negative ones. */
export function signed(value, greatest) {
  const svg = shape("svg", { viewBox: "0 0 100 8", class: "share", "aria-hidden": "true", preserveAspectRatio: "none" });
  const wide = greatest > 0 ? (Math.min(1, Math.abs(value) / greatest) * 100) / 2 : 0;
  svg.append(shape("rect", { x: 0, y: 2, width: 100, height: 4, class: "track" }));
  svg.append(shape("rect", { x: value < 0 ? 50 - wide : 50, y: 1, width: wide, height: 6, class: value < 0 ? "negative" : "positive" }));
  svg.append(shape("rect", { x: 49.6, y: 0, width: 0.8, height: 8, class: "mark" }));
  return svg;
}
