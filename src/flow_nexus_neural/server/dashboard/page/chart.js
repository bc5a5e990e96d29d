// Axes of charts. Sizes are pixels: pictures are drawn anew when their width changes, so that text keeps its size.

const MARGIN = { left: 48, right: 14, top: 12, bottom: 36 };

/** At most `most` round numbers that cover a range. */
function ticks(low, high, most) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * span; k += 1) found.push(Number((k * step).toPrecision(12)));
  return found;
}

/** A range that holds all values, a little wider than they are. */
function padded(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const more = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - more, high + more];
}

/**
 * The axes of a chart.
 * Returns { x(value), y(value), nodes }: positions in pixels, and what is to be drawn below the marks.
 */
function axes({ width, height, xRange, yRange, xTicks, yTicks, xName, yName, xText = String, yText = String }) {
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const x = (value) => MARGIN.left + (inner.width * (value - xRange[0])) / (xRange[1] - xRange[0] || 1);
  const y = (value) => MARGIN.top + inner.height * (1 - (value - yRange[0]) / (yRange[1] - yRange[0] || 1));
  const bottom = MARGIN.top + inner.height;
  const nodes = [
    ...yTicks.map((value) => [
      s("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
      s("text", { class: "tick", x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, yText(value)),
    ]),
    ...xTicks.map((value) => s("text", { class: "tick", x: x(value), y: bottom + 15, "text-anchor": "middle" }, xText(value))),
    s("line", { class: "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: bottom, y2: bottom }),
    s("text", { class: "axis-name", x: MARGIN.left + inner.width / 2, y: height - 4, "text-anchor": "middle" }, xName),
    s("text", { class: "axis-name", x: -(MARGIN.top + inner.height / 2), y: 11, "text-anchor": "middle", transform: "rotate(-90)" }, yName),
  ];
  return { x, y, nodes };
}

/** A line through points; where a value is missing it is interrupted. Points: [[x, y or null]] in data. */
function line(scale, points, className) {
  let path = "";
  let isOpen = false;
  for (const [x, y] of points) {
    if (y === null || y === undefined) isOpen = false;
    else {
      path += `${isOpen ? "L" : "M"}${scale.x(x).toFixed(1)} ${scale.y(y).toFixed(1)}`;
      isOpen = true;
    }
  }
  return s("path", { class: `line ${className}`, d: path });
}

/** What marks mean, beside a chart. entries: [[className, text, kind]] with kind "line", "dot" or "bar". */
function legend(entries) {
  const swatch = (className, kind) =>
    s(
      "svg",
      { width: 22, height: 12, "aria-hidden": "true", class: "swatch" },
      kind === "line" ? s("path", { class: `line ${className}`, d: "M1 6H21" }) : null,
      kind === "dot" ? s("circle", { class: className, cx: 11, cy: 6, r: 4 }) : null,
      kind === "bar" ? s("rect", { class: className, x: 5, y: 1, width: 12, height: 10, rx: 2 }) : null,
    );
  return h("ul", { class: "legend" }, entries.map(([className, text, kind]) => h("li", {}, swatch(className, kind), text)));
}

/** A sentence in place of a picture for which there is nothing yet. */
function nothing(text) {
  return h("p", { class: "nothing" }, text);
}
