// The head of the page, and the numbers that are looked at first.

const STATES = { healthy: "good", ready: "good", training: "busy", completed: "good", running: "busy", early_stopped: "good", degraded: "warn", recovering: "warn", failed: "bad", executed: "good", recommended: "busy", terminated: "off" };

/** A word for a state, with a mark whose colour is not the only sign. */
function badge(word) {
  const kind = STATES[word] ?? "off";
  const sign = { good: "\u2713", busy: "\u25B6", warn: "!", bad: "\u2717", off: "\u25CB" }[kind];
  return h("span", { class: `badge ${kind}` }, h("span", { "aria-hidden": "true" }, `${sign} `), word.replaceAll("_", " "));
}

function drawHead({ status }) {
  return [
    h("h1", {}, status.name, " ", badge(status.status)),
    h(
      "p",
      { class: "facts" },
      [status.cluster_id, `${status.topology} links`, status.architecture, status.consensus, status.dataset_info?.name]
        .filter(Boolean)
        .map((fact) => h("span", {}, fact)),
      status.dataset_info?.synthetic ? h("span", { class: "caution" }, "synthetic data") : null,
    ),
  ];
}

function tile(name, ...content) {
  return h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, content));
}

function drawOverview({ status }) {
  const show = (path, how) => shown(status, path, how);
  const small = (...content) => h("small", {}, content);
  const isRegression = status.dataset_info?.task === "regression";
  const evaluation = status.evaluation;
  const best = evaluation?.best_baseline;
  const training = status.training;
  return h(
    "dl",
    { class: "tiles" },
    tile(
      isRegression ? "Right direction, test rows" : "Accuracy, test rows",
      show("global_accuracy", "share"),
      evaluation?.accuracy_interval
        ? small("95 %: ", show("evaluation.accuracy_interval.0", "share"), " to ", show("evaluation.accuracy_interval.1", "share"))
        : null,
      best && !isRegression ? small(`best baseline, ${best}: `, show(`evaluation.baselines.${best}`, "share")) : null,
      best && isRegression ? small("RMSE ", show("evaluation.rmse", "loss"), `; ${best}: `, show(`evaluation.baselines.${best}`, "loss")) : null,
    ),
    tile("Validation loss", show("training.val_loss", "loss"), small("train ", show("training.train_loss", "loss"))),
    tile(
      "Training",
      training ? badge(status.training_status) : "none",
      training ? small("round ", show("training.current_round", "count"), " of ", show("training.total_rounds", "count")) : null,
      training
        ? h("progress", { max: 100, value: status.training_progress, "aria-label": "Progress of the training" })
        : null,
      status.training_status === "running" ? small("time left: ", show("training.eta_seconds", "seconds")) : null,
    ),
    tile(
      "Nodes active",
      show("active_nodes", "count"),
      small("of ", show("total_nodes", "count"), "; failed: ", show("failed_nodes", "count"), ...(status.recovering_nodes ? ["; recovering: ", show("recovering_nodes", "count")] : [])),
    ),
    tile("Predict, median", show("latency.p50", "ms"), status.latency.n === null ? null : small("of ", show("latency.n", "count"), status.latency.n === 1 ? " call" : " calls")),
    tile("Model version", show("model_version", "count"), small("to and from nodes: ", show("communication_bytes", "bytes"))),
  );
}
