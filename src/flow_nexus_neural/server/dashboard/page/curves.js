// Learning curves: the loss of every round, on the rows that were trained on and on rows that were not.

const CURVES = [
  ["train_loss", "train", "train"],
  ["val_loss", "validation", "validation"],
];

let chosenRound = null;

/** Round numbers among the rounds, and the first and the last where these are not too near. */
function roundTicks(first, last, most) {
  const found = ticks(first, last, most).filter(Number.isInteger);
  const apart = (last - first) / most / 2;
  return [...new Set([first, ...found.filter((round) => round - first >= apart && last - round >= apart), last])];
}

function drawCurves({ status, rounds }, width) {
  const points = rounds ?? status.history;
  const all = points.flatMap((point) => CURVES.map(([field]) => point[field])).filter((value) => value !== null);
  if (!all.length) return nothing("No round has been committed yet.");
  const height = Math.max(220, Math.min(300, width * 0.5));
  const first = points[0].round;
  const last = points.at(-1).round;
  const yRange = padded(all);
  const scale = axes({
    width,
    height,
    xRange: first === last ? [first - 1, last + 1] : [first, last],
    yRange,
    xTicks: roundTicks(first, last, Math.max(2, Math.floor(width / 70))),
    yTicks: ticks(...yRange, 5),
    xName: "round",
    yName: "loss",
  });
  const best = points.find((point) => point.round === status.training?.best_round);
  const marks = CURVES.flatMap(([field, , className]) => [
    line(scale, points.map((point) => [point.round, point[field]]), className),
    ...points
      .filter((point) => point[field] !== null && (points.length <= 40 || point === points.at(-1)))
      .map((point) => s("circle", { class: className, cx: scale.x(point.round), cy: scale.y(point[field]), r: 3 })),
  ]);
  if (best) marks.unshift(s("line", { class: "best", x1: scale.x(best.round), x2: scale.x(best.round), y1: MARGIN.top, y2: height - MARGIN.bottom }));
  const cursor = s("line", { class: "cursor", y1: MARGIN.top, y2: height - MARGIN.bottom, visibility: "hidden" });
  const title = `Loss of ${points.length} rounds, ${first} to ${last}`;
  const ends = CURVES.map(([field, name]) => `${name} from ${worded(points[0][field], "loss")} to ${worded(points.at(-1)[field], "loss")}`);
  const svg = picture("curves", { width, height, title, description: `${ends.join("; ")}.` }, scale.nodes, marks, cursor);
  const missing = status.training && points.length < status.training.current_round && !rounds;
  return [
    legend([...CURVES.map(([field, name, className]) => [className, points.some((point) => point[field] !== null) ? name : `${name} (${NOT_MEASURED})`, "line"]), ...(best ? [["best", `best round (${best.round})`, "line"]] : [])]),
    readable(svg, cursor, points, scale),
    missing ? h("p", { class: "note" }, `${points.length} of `, shown(status, "training.current_round", "count"), " rounds are drawn.") : null,
    asTable(
      "curves-as",
      "Loss and accuracy by round",
      [
        { name: "Round", isHeader: true, cell: (point) => String(point.round) },
        { name: "Train loss", isNumber: true, cell: (point) => worded(point.train_loss, "loss") },
        { name: "Validation loss", isNumber: true, cell: (point) => worded(point.val_loss, "loss") },
        { name: "Accuracy", isNumber: true, cell: (point) => worded(point.accuracy, "share") },
        { name: "Seconds", isNumber: true, cell: (point) => worded(point.seconds, "loss") },
      ],
      points,
    ),
  ];
}

/** The chart with a line that pointer and arrow keys move from round to round, and the numbers there. */
function readable(svg, cursor, points, scale) {
  const reading = h("output", { class: "reading" });
  const show = (index) => {
    const point = points[Math.max(0, Math.min(points.length - 1, index))];
    chosenRound = point.round;
    cursor.setAttribute("x1", scale.x(point.round));
    cursor.setAttribute("x2", scale.x(point.round));
    cursor.setAttribute("visibility", "visible");
    reading.textContent = `Round ${point.round}: train ${worded(point.train_loss, "loss")}, validation ${worded(point.val_loss, "loss")}, accuracy ${worded(point.accuracy, "share")}`;
  };
  const current = () => points.findIndex((point) => point.round === chosenRound);
  const keys = {
    ArrowLeft: () => current() - 1,
    ArrowRight: () => current() + 1,
    Home: () => 0,
    End: () => points.length - 1,
  };
  if (current() >= 0) show(current());
  else reading.textContent = "Point at a round, or use the arrow keys.";
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const away = (point) => Math.abs(scale.x(point.round) - (event.clientX - box.left));
    show(points.reduce((best, point, index) => (away(point) < away(points[best]) ? index : best), 0));
  };
  return [
    h(
      "div",
      {
        class: "chart",
        tabindex: "0",
        role: "group",
        "aria-label": "Learning curves; arrow keys move from round to round",
        "data-key": "curves-chart",
        pointermove: nearest,
        pointerdown: nearest,
        keydown: (event) => {
          if (!(event.key in keys)) return;
          event.preventDefault();
          show(keys[event.key]());
        },
      },
      svg,
    ),
    reading,
  ];
}
