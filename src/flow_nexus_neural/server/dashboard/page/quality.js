// Whether the model can be believed: its confidence against what was right, and what it takes for what.

function drawReliability({ status }, width) {
  const confidence = status.evaluation?.confidence;
  if (!confidence) return nothing(status.dataset_info?.task === "regression" ? `A regression has no confidence${status.evaluation?.conformal ? "; see its intervals" : `, and its intervals are ${NOT_MEASURED}`}.` : `Calibration: ${NOT_MEASURED}.`);
  const numbers = h(
    "p",
    { class: "note" },
    "Expected calibration error ",
    shown(status, "evaluation.confidence.ece", "loss"),
    ", Brier score ",
    shown(status, "evaluation.confidence.brier", "loss"),
    ", on ",
    shown(status, "evaluation.confidence.n", "count"),
    " test rows",
  );
  const bins = confidence.per_bin;
  if (!bins?.length) return [nothing(`Single bins: ${NOT_MEASURED}.`), numbers];
  const size = Math.min(width, 340);
  const range = [0, 1];
  const steps = [0, 0.25, 0.5, 0.75, 1];
  const scale = axes({
    width: size,
    height: size,
    xRange: range,
    yRange: range,
    xTicks: steps,
    yTicks: steps,
    xName: "confidence",
    yName: "share decided right",
  });
  const largest = Math.max(...bins.map((bin) => bin.n));
  const told = bins.map((bin) => `${worded(bin.confidence, "share")} sure: ${worded(bin.accuracy, "share")} right of ${bin.n}`);
  return [
    legend([
      ["ideal", "as sure as right", "line"],
      ["dot", "rows of a bin; area: how many", "dot"],
    ]),
    picture(
      "reliability",
      { width: size, height: size, title: "Confidence against the share that was right", description: `${told.join("; ")}.` },
      scale.nodes,
      s("path", { class: "line ideal", d: `M${scale.x(0)} ${scale.y(0)}L${scale.x(1)} ${scale.y(1)}` }),
      bins.map((bin) => [
        s("line", { class: "gap", x1: scale.x(bin.confidence), x2: scale.x(bin.confidence), y1: scale.y(bin.confidence), y2: scale.y(bin.accuracy) }),
        s("circle", { class: "dot", cx: scale.x(bin.confidence), cy: scale.y(bin.accuracy), r: 3 + 8 * Math.sqrt(bin.n / largest) }),
      ]),
    ),
    numbers,
    asTable(
      "reliability-as",
      "Confidence and share decided right by bin",
      [
        { name: "Confidence", isHeader: true, cell: (bin) => `${worded(bin.low, "share")} to ${worded(bin.high, "share")}` },
        { name: "Rows", isNumber: true, cell: (bin) => worded(bin.n, "count") },
        { name: "Mean confidence", isNumber: true, cell: (bin) => worded(bin.confidence, "share") },
        { name: "Right", isNumber: true, cell: (bin) => worded(bin.accuracy, "share") },
      ],
      bins,
    ),
  ];
}

function drawConfusion({ status }) {
  const evaluation = status.evaluation;
  if (status.dataset_info?.task === "regression") return drawErrors(status);
  const counts = evaluation?.confusion;
  const classes = evaluation?.per_class;
  if (!counts || !classes) return nothing(`Confusion matrix: ${NOT_MEASURED}.`);
  const rowSum = (row) => counts[row].reduce((sum, count) => sum + count, 0);
  const cell = (row, column) => {
    const share = rowSum(row) ? counts[row][column] / rowSum(row) : 0;
    const level = Math.round(share * 8);
    const kind = row === column ? "right" : "wrong";
    return h("td", { class: `number cell ${kind} level-${level}` }, shown(status, `evaluation.confusion.${row}.${column}`, "count"));
  };
  const head = (text, scope, className) => h("th", { scope, class: className }, text);
  return [
    h(
      "div",
      { class: "scrolls", tabindex: "0", role: "region", "aria-label": "Confusion matrix of test rows", "data-key": "confusion" },
      h(
        "table",
        { class: "confusion" },
        h("caption", {}, "Rows: the truth. Columns: what was decided."),
        h("thead", {}, h("tr", {}, head("truth", "col"), classes.map((one) => head(labelled(one.label), "col", "class")), head("precision", "col"), head("recall", "col"), head("F1", "col"))),
        h(
          "tbody",
          {},
          classes.map((one, row) =>
            h(
              "tr",
              {},
              head(labelled(one.label), "row"),
              classes.map((_, column) => cell(row, column)),
              ["precision", "recall", "f1"].map((field) => h("td", { class: "number" }, shown(status, `evaluation.per_class.${row}.${field}`, "share"))),
            ),
          ),
        ),
      ),
    ),
    h("p", { class: "note" }, "Balanced accuracy ", shown(status, "evaluation.balanced_accuracy", "share"), ", area under the ROC curve ", shown(status, "evaluation.auc", "loss")),
    conformalSentence(status),
  ];
}

function drawErrors(status) {
  const line = (name, path, how) => [h("dt", {}, name), h("dd", {}, shown(status, path, how))];
  return [
    h(
      "dl",
      { class: "pairs" },
      line("Mean absolute error", "evaluation.mae", "loss"),
      line("Root mean squared error", "evaluation.rmse", "loss"),
      line("R\u00B2", "evaluation.r2", "loss"),
      line("Right direction", "evaluation.directional_accuracy", "share"),
    ),
    conformalSentence(status),
  ];
}

function conformalSentence(status) {
  const conformal = status.evaluation?.conformal;
  if (!conformal) return null;
  const what = status.dataset_info?.task === "regression" ? "Intervals" : "Prediction sets";
  return h("p", { class: "note" }, `${what} of `, shown(status, "evaluation.conformal.level", "share"), " hold ", shown(status, "evaluation.conformal.coverage", "share"), " of the test rows");
}
