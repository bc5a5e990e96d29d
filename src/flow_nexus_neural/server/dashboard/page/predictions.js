// How long predictions take inside the server, against the 100 ms that people expect, and whether nodes agree.

const LIMIT_MS = 100;
const LABEL_WIDTH = 62;
const PERCENTILES = [
  ["p50", "median"],
  ["p95", "95 %"],
  ["p99", "99 %"],
];

function drawPredictions({ status, stored }, width) {
  const agreement = h(
    "p",
    { class: "note" },
    "Agreement of the nodes: ",
    shown(status, "agreement", "share"),
    "; failed calls to nodes: ",
    shown(status, "error_rate", "share"),
  );
  if (stored) return nothing("How long predictions take is not stored: only the server that answers them knows it.");
  if (!status.latency.n) return [nothing("No prediction in the last five minutes."), agreement];
  const recent = status.recent_predictions ?? [];
  return [
    percentileBars(status, width),
    recent.length > 1 ? recentStrip(recent, width) : null,
    agreement,
    recent.length
      ? asTable(
          "predictions-as",
          "The last predictions, oldest first",
          [
            { name: "Ago", isHeader: true, cell: (one) => worded(one.age_s, "seconds") },
            { name: "Time", isNumber: true, cell: (one) => worded(one.ms, "ms") },
            { name: "Agreement", isNumber: true, cell: (one) => worded(one.agreement, "share") },
          ],
          recent,
        )
      : null,
  ];
}

/** Where a number begins that the line of the limit must not cross. */
function beside(start, limit) {
  return start < limit && start + LABEL_WIDTH > limit ? limit + 6 : start;
}

function percentileBars(status, width) {
  const left = 58;
  const right = 74;
  const row = 26;
  const values = PERCENTILES.map(([field]) => status.latency[field]).filter((value) => value !== null);
  const most = Math.max(LIMIT_MS * 1.1, ...values);
  const x = (ms) => left + ((width - left - right) * ms) / most;
  const height = PERCENTILES.length * row + 24;
  const bars = PERCENTILES.map(([field, name], index) => {
    const value = status.latency[field];
    const y = index * row;
    return [
      s("text", { class: "tick", x: left - 8, y: y + 17, "text-anchor": "end" }, name),
      value === null ? null : s("rect", { class: value > LIMIT_MS ? "bar late" : "bar", x: left, y: y + 4, width: Math.max(1, x(value) - left), height: row - 9, rx: 3 }),
      s("text", { class: "value-text", x: value === null ? left : beside(x(value) + 6, x(LIMIT_MS)), y: y + 17, "data-path": `latency.${field}`, "data-how": "ms" }, worded(value, "ms")),
    ];
  });
  const told = PERCENTILES.map(([field, name]) => `${name} ${worded(status.latency[field], "ms")}`).join(", ");
  return picture(
    "latency",
    { width, height, title: "Duration of predictions", description: `${told}; ${status.latency.n} predictions; the line is at ${LIMIT_MS} ms.` },
    s("line", { class: "limit", x1: x(LIMIT_MS), x2: x(LIMIT_MS), y1: 0, y2: PERCENTILES.length * row }),
    bars,
    s("text", { class: "tick", x: x(LIMIT_MS), y: height - 6, "text-anchor": "middle" }, `${LIMIT_MS} ms`),
  );
}

function recentStrip(recent, width) {
  const height = 150;
  const most = Math.max(LIMIT_MS * 1.1, ...recent.map((one) => one.ms));
  const oldest = Math.max(...recent.map((one) => one.age_s), 1);
  const scale = axes({
    width,
    height,
    xRange: [-oldest, 0],
    yRange: [0, most],
    xTicks: ticks(-oldest, 0, Math.max(2, Math.floor(width / 90))),
    yTicks: ticks(0, most, 4),
    xName: "seconds ago",
    yName: "ms",
    xText: (value) => String(Math.abs(value)),
  });
  const points = recent.map((one) => [-one.age_s, one.ms]);
  return picture(
    "recent",
    { width, height, title: `The last ${recent.length} predictions`, description: `Milliseconds of each over the last ${worded(oldest, "seconds")}; the line is at ${LIMIT_MS} ms.` },
    scale.nodes,
    s("line", { class: "limit", x1: MARGIN.left, x2: width - MARGIN.right, y1: scale.y(LIMIT_MS), y2: scale.y(LIMIT_MS) }),
    points.map(([age, ms]) => s("circle", { class: ms > LIMIT_MS ? "dot late" : "dot", cx: scale.x(age), cy: scale.y(ms), r: 3.5 })),
  );
}
