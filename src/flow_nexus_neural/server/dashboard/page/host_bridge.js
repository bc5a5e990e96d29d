// The bridge to the host of an MCP App: JSON-RPC 2.0 over postMessage (MCP Apps, specification 2026-01-26).

const PROTOCOL = "2026-01-26";
const STATUS_META = "flow-nexus-neural/status";
const CALL_LIMIT_MS = 55_000;
const WAIT_S = { training: 10, otherwise: 20 };
const PAUSE_MS = { training: 1000, otherwise: 3000, most: 60_000 };
const HOST_STYLES = /^--(color|font|border|shadow)-[a-z0-9-]+$/;

class HostBridge {
  #nextId = 1;
  #waiting = new Map();
  #clusterId = null;
  #capabilities = {};
  #context = {};
  #rounds = null;
  #isPaused = false;
  #isOver = false;
  #isPolling = false;
  #wake = () => {};
  #height = 0;

  constructor() {
    this.fullscreen = h("button", { type: "button", hidden: true, click: () => this.#toggleFullscreen() }, "Full screen");
    this.view = new View([pauseButton((isPaused) => this.#pause(isPaused)), this.fullscreen]);
    window.addEventListener("message", (event) => {
      if (event.source === window.parent && event.data?.jsonrpc === "2.0") this.#received(event.data);
    });
    document.addEventListener("visibilitychange", () => this.#wake());
  }

  async start() {
    const started = await this.#request("ui/initialize", {
      protocolVersion: PROTOCOL,
      appInfo: { name: "flow-nexus-neural-view", version: VERSION },
      appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] },
    });
    this.#capabilities = started.hostCapabilities ?? {};
    this.#take(started.hostContext ?? {});
    this.#notify("ui/notifications/initialized", {});
    new ResizeObserver(() => this.#tellSize()).observe(document.body);
  }

  // Messages

  #send(message) {
    window.parent.postMessage({ jsonrpc: "2.0", ...message }, "*");
  }

  #notify(method, params) {
    this.#send({ method, params });
  }

  #request(method, params) {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#settle({ id, error: { message: "the host did not answer" } }), CALL_LIMIT_MS);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#send({ id, method, params });
    });
  }

  #settle({ id, result, error }) {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    if (error === undefined) waiting.resolve(result ?? {});
    else waiting.reject(new Error(String(error?.message ?? "the host refused")));
  }

  #received(message) {
    if (typeof message.method !== "string") this.#settle(message);
    else if (message.id === undefined) this.#noted(message.method, message.params ?? {});
    else this.#asked(message);
  }

  #asked({ id, method }) {
    if (method === "ui/resource-teardown") this.#end();
    const isKnown = method === "ui/resource-teardown" || method === "ping";
    this.#send(isKnown ? { id, result: {} } : { id, error: { code: -32601, message: "Method not found" } });
  }

  #noted(method, params) {
    if (method === "ui/notifications/host-context-changed") this.#take(params);
    if (method === "ui/notifications/tool-input") this.view.say("Looking at the cluster\u2026");
    if (method === "ui/notifications/tool-cancelled") this.view.say("The call was cancelled.", true);
    if (method === "ui/notifications/tool-result") this.#opened(params);
  }

  // The cluster

  #opened(result) {
    const id = result.structuredContent?.cluster_id;
    if (result.isError || typeof id !== "string") {
      this.view.say(textOf(result) || "There is no cluster to show.", true);
      return;
    }
    this.#clusterId = id;
    const status = result._meta?.[STATUS_META];
    if (status) this.#show(status);
    if (!this.#capabilities.serverTools) {
      if (status) this.view.say(`As of ${timeNow()}; this host does not let a view refresh itself.`);
      else this.view.say("This host does not let a view ask for a cluster.", true);
    } else if (!this.#isPolling) this.#poll(Boolean(status));
  }

  #show(status) {
    this.view.show(status, this.#rounds);
    this.view.say(`Live \u00B7 ${timeNow()}`);
  }

  /** Ask again and again, one call at a time; slower while calls fail, and not at all while nobody looks. */
  async #poll(mayWait) {
    this.#isPolling = true;
    let failures = 0;
    while (!this.#isOver) {
      if (this.#isPaused || document.hidden) {
        await this.#sleep(PAUSE_MS.most);
        continue;
      }
      let pause = PAUSE_MS.otherwise;
      try {
        const status = await this.#status(mayWait);
        await this.#readRounds(status);
        if (this.#isOver) break;
        this.#show(status);
        [failures, mayWait] = [0, true];
        if (status.status === "terminated") break;
        if (status.training_status === "running") pause = PAUSE_MS.training;
      } catch (failure) {
        failures += 1;
        mayWait = false;
        pause = Math.min(PAUSE_MS.most, PAUSE_MS.training * 2 ** failures);
        this.view.say(`Not refreshed since: ${failure.message}`, true);
      }
      await this.#sleep(pause);
    }
    this.#isPolling = false;
    if (!this.#isOver) this.view.say(`The cluster has ended \u00B7 ${timeNow()}`);
  }

  async #status(mayWait) {
    const isTraining = this.lastTraining === "running";
    const wait = mayWait ? { wait_seconds: isTraining ? WAIT_S.training : WAIT_S.otherwise, until: "change" } : {};
    const result = await this.#request("tools/call", {
      name: "neural_cluster_status",
      arguments: { cluster_id: this.#clusterId, detail: "full", ...wait },
    });
    const status = result.structuredContent;
    if (result.isError || !status) throw new Error(textOf(result) || "there was no answer");
    this.lastTraining = status.training_status;
    return status;
  }

  /** The whole history where the status has only some of its rounds, and the host lets views read. */
  async #readRounds(status) {
    const done = status.training?.current_round ?? 0;
    if (done <= status.history.length || !this.#capabilities.serverResources) {
      this.#rounds = null;
      return;
    }
    if (this.#rounds?.length === done) return;
    try {
      const read = await this.#request("resources/read", { uri: `neural://clusters/${this.#clusterId}/history` });
      this.#rounds = JSON.parse(read.contents[0].text).rounds;
    } catch {
      this.#rounds = null; // the rounds of the status are drawn, and the page says how many these are
    }
  }

  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #pause(isPaused) {
    this.#isPaused = isPaused;
    if (isPaused) this.view.say(`Paused \u00B7 ${timeNow()}`);
    this.#wake();
  }

  #end() {
    this.#isOver = true;
    this.#wake();
  }

  // The host's look

  #take(context) {
    this.#context = { ...this.#context, ...context };
    const root = document.documentElement;
    const { theme, styles, safeAreaInsets: inset, availableDisplayModes, displayMode } = this.#context;
    if (theme === "light" || theme === "dark") root.style.colorScheme = theme;
    for (const [name, value] of Object.entries(styles?.variables ?? {})) {
      if (HOST_STYLES.test(name) && typeof value === "string") root.style.setProperty(name, value);
    }
    if (inset) document.body.style.padding = [inset.top, inset.right, inset.bottom, inset.left].map((px) => `${Number(px) || 0}px`).join(" ");
    this.fullscreen.hidden = !availableDisplayModes?.includes("fullscreen");
    this.fullscreen.textContent = displayMode === "fullscreen" ? "Leave full screen" : "Full screen";
  }

  async #toggleFullscreen() {
    const mode = this.#context.displayMode === "fullscreen" ? "inline" : "fullscreen";
    try {
      const result = await this.#request("ui/request-display-mode", { mode });
      this.#take({ displayMode: result.mode });
    } catch (failure) {
      this.view.say(failure.message, true);
    }
  }

  #tellSize() {
    const height = Math.ceil(document.body.getBoundingClientRect().height);
    if (height === this.#height) return;
    this.#height = height;
    this.#notify("ui/notifications/size-changed", { height });
  }
}

function textOf(result) {
  return (result.content ?? []).map((block) => block.text).filter((text) => typeof text === "string").join(" ");
}

new HostBridge().start().catch((failure) => {
  document.getElementById("waiting").textContent = `There is no host that shows this view: ${failure.message}`;
});
