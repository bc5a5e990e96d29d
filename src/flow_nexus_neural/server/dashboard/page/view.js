// The page: its parts, what each of them depends on, and when it is drawn anew.

const MIN_WIDTH = 240;

/**
 * Parts in reading order. `of` is what a part is drawn from; while that stays the same, so does the part.
 * `names` gives a part another title than its usual one.
 * draw(model, width) returns nodes; model: { status, rounds, stored }.
 */
const PARTS = [
  { id: "overview", title: null, of: (m) => [m.status.global_accuracy, m.status.evaluation, m.status.training, m.status.training_status, m.status.active_nodes, m.status.failed_nodes, m.status.total_nodes, m.status.latency, m.status.model_version, m.status.communication_bytes], draw: drawOverview },
  { id: "warnings", title: "Warnings", of: (m) => [m.status.warnings, m.status.training_error], draw: drawWarnings, hides: (m) => !m.status.warnings.length && !m.status.training_error },
  { id: "curves", title: "Learning curves", of: (m) => [m.rounds ?? m.status.history, m.status.training?.best_round, m.status.training?.current_round], draw: drawCurves },
  { id: "topology", title: "Topology", of: (m) => [m.status.topology, m.status.links, m.stored, m.status.nodes.map((n) => [n.slot, n.role, n.status])], draw: drawTopology },
  { id: "predictions", title: "Live predictions", of: (m) => [m.status.latency, m.status.agreement, m.status.recent_predictions, m.status.error_rate, m.stored], draw: drawPredictions, size: "third" },
  { id: "reliability", title: "Is its confidence right?", of: (m) => [m.status.evaluation, m.status.dataset_info], draw: drawReliability, size: "third" },
  { id: "confusion", title: "What it takes for what", of: (m) => [m.status.evaluation, m.status.dataset_info], draw: drawConfusion, size: "third last", names: (m) => (m.status.dataset_info?.task === "regression" ? "How far off it is" : "What it takes for what") },
  { id: "nodes", title: "Nodes", of: (m) => [m.status.nodes, m.status.retired_nodes], draw: drawNodes, size: "full" },
  { id: "guarantees", title: "Guarantees", of: (m) => m.status.guarantees, draw: drawGuarantees },
  { id: "events", title: "Autonomy, audited", of: (m) => m.status.daa, draw: drawEvents },
];

/** The page around one cluster. `controls` are elements of the bridge for its head. */
class View {
  #model = null;
  #drawn = new Map();
  #widths = new Map();
  #bodies = new Map();
  #head = h("div", { class: "head" });
  #state = h("p", { class: "state" });
  #said = "";

  constructor(controls) {
    this.root = document.getElementById("view");
    this.announcer = document.getElementById("announcer");
    this.controls = h("div", { class: "controls" }, controls, this.#state);
    this.parts = h("div", { class: "parts" });
    for (const part of PARTS) this.parts.append(this.#frame(part));
    this.observer = new ResizeObserver((entries) => this.#resized(entries));
  }

  /**
   * Show a cluster as it is now; `rounds` is its whole history, null where only that of the status is known.
   * stored: null where its own server tells; of a copy { links }, where links are those that were recorded last, or null.
   */
  show(status, rounds = null, stored = null) {
    const isFirst = this.#model === null;
    this.#model = { status, rounds, stored };
    if (isFirst) {
      this.root.replaceChildren(h("header", {}, this.#head, this.controls), this.parts);
      this.root.removeAttribute("aria-busy");
      for (const body of this.#bodies.values()) this.observer.observe(body);
    }
    document.title = `${status.name} \u2013 neural cluster`;
    this.#update({ id: "head", of: (m) => [m.status.name, m.status.status, m.status.topology, m.status.dataset_info], draw: drawHead }, this.#head);
    for (const part of PARTS) this.#update(part, this.#bodies.get(part.id));
    this.#announce(status);
  }

  /** Say how fresh the page is, and what is wrong with its source. */
  say(text, isTrouble = false) {
    if (this.#model === null) this.root.replaceChildren(h("p", { id: "waiting" }, text), this.controls);
    this.#state.textContent = text;
    this.#state.classList.toggle("trouble", isTrouble);
  }

  /** Forget the cluster, for another one. */
  clear() {
    this.#model = null;
    this.#drawn.clear();
    this.#said = "";
    chosenRound = null;
  }

  #frame(part) {
    const body = h("div", { class: "body" });
    this.#bodies.set(part.id, body);
    const name = part.title ? { "aria-labelledby": `${part.id}-name` } : { "aria-label": "Overview" };
    const className = ["part", part.id, part.size].filter(Boolean).join(" ");
    return h("section", { class: className, ...name }, part.title ? h("h2", { id: `${part.id}-name` }, part.title) : null, body);
  }

  #update(part, body) {
    const width = Math.max(MIN_WIDTH, Math.floor(this.#widths.get(part.id) ?? body.clientWidth));
    const state = JSON.stringify([width, part.of(this.#model)]);
    if (this.#drawn.get(part.id) === state) return;
    this.#drawn.set(part.id, state);
    if (body.parentElement.matches("section")) body.parentElement.hidden = part.hides?.(this.#model) ?? false;
    if (part.names) body.previousElementSibling.textContent = part.names(this.#model);
    redraw(body, part.draw(this.#model, width));
  }

  #resized(entries) {
    for (const entry of entries) {
      const part = PARTS.find((one) => this.#bodies.get(one.id) === entry.target);
      this.#widths.set(part.id, entry.contentRect.width);
      if (this.#model !== null) this.#update(part, entry.target);
    }
  }

  /** Tell those who do not see the page what happened, once for each event and not for each refresh. */
  #announce(status) {
    const round = status.training ? `, round ${status.training.current_round} of ${status.training.total_rounds}` : "";
    const failed = status.failed_nodes ? `, ${status.failed_nodes} nodes failed` : "";
    const said = `${status.name}: ${status.status}${round}${failed}`;
    if (said === this.#said) return;
    this.#said = said;
    this.announcer.textContent = said;
  }
}

/** A button that stops and resumes the refreshing. */
function pauseButton(onPause) {
  const button = h(
    "button",
    {
      type: "button",
      "aria-pressed": "false",
      click: () => {
        const isPaused = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(isPaused));
        button.textContent = isPaused ? "Resume" : "Pause";
        onPause(isPaused);
      },
    },
    "Pause",
  );
  return button;
}

function timeNow() {
  return new Date().toLocaleTimeString("en-GB");
}
