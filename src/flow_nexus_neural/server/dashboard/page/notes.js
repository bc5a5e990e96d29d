// What is promised, what was decided without being asked, and what a reader should be warned of.

function drawWarnings({ status }) {
  const all = [...(status.training_error ? [`the training failed: ${status.training_error}`] : []), ...status.warnings];
  return h("ul", { class: "warnings" }, all.map((warning) => h("li", {}, warning)));
}

function drawGuarantees({ status }) {
  const { guarantees } = status;
  if (!guarantees) return nothing("What holds now depends on the nodes that run: only the server knows it.");
  return [
    h(
      "p",
      {},
      h("span", { class: `badge ${guarantees.holds ? "good" : "warn"}` }, h("span", { "aria-hidden": "true" }, guarantees.holds ? "\u2713 " : "! "), guarantees.holds ? "holds" : guarantees.holds === null ? "once nodes are up" : "does not hold"),
      ` ${guarantees.mode}: ${guarantees.condition}`,
    ),
    guarantees.reason ? h("p", { class: "note" }, guarantees.reason) : null,
    h(
      "dl",
      { class: "pairs" },
      h("dt", {}, "Workers"),
      h("dd", {}, shown(status, "guarantees.n", "count")),
      h("dt", {}, "Of them may lie"),
      h("dd", {}, shown(status, "guarantees.f_tolerated", "count")),
      h("dt", {}, "Trusted"),
      h("dd", {}, guarantees.trusted.join(", ") || "nobody"),
    ),
    guarantees.notes.length ? h("ul", { class: "notes" }, guarantees.notes.map((note) => h("li", {}, note))) : null,
  ];
}

function drawEvents({ status }) {
  const { daa } = status;
  const counts = h(
    "p",
    { class: "note" },
    daa.enabled ? "On; level " : "Recommends only; level ",
    shown(status, "daa.level_effective", "loss"),
    "; executed ",
    shown(status, "daa.executed", "count"),
    ", recommended ",
    shown(status, "daa.recommended", "count"),
    ", suppressed ",
    shown(status, "daa.suppressed", "count"),
  );
  if (!daa.events.length) return [counts, nothing("No decision yet.")];
  const newestFirst = [...daa.events].reverse();
  return [counts, h("ol", { class: "decisions", tabindex: "0", "aria-label": "Decisions, newest first", "data-key": "events" }, newestFirst.map(eventLine))];
}

/** One entry of the audit log: what was decided about whom, what came of it, and the evidence as it is written. */
function eventLine(event) {
  const { seq, ts: moment, rule: action, scope, sha, target, decision, reason, outcome, ...more } = event;
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const known = Object.entries(more).filter(([, value]) => value !== null);
  return h(
    "li",
    {},
    h("strong", {}, [action, target].filter(Boolean).map(text).join(" ").replaceAll("_", " ")),
    decision ? [" ", badge(text(decision))] : null,
    moment ? h("small", {}, clockTime(moment)) : null,
    [reason, outcome].filter(Boolean).map((value) => h("p", {}, text(value))),
    known.length
      ? h(
          "details",
          { "data-key": `event-${seq}` },
          h("summary", { "data-key": `event-${seq}-summary` }, "Evidence"),
          h("dl", { class: "pairs" }, known.map(([name, value]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, text(value))])),
        )
      : null,
  );
}
