// The bridge to this program's own web server: server-sent events with the status of one cluster.

const clusterOfAddress = () => new URLSearchParams(location.search).get("cluster");

class HttpBridge {
  #source = null;
  #clusterId = clusterOfAddress();
  #lastAt = null;

  constructor() {
    this.choice = h("select", { "aria-label": "Cluster", change: () => this.#choose(this.choice.value) });
    this.view = new View([this.choice, pauseButton((isPaused) => (isPaused ? this.#pause() : this.#listen()))]);
    this.view.say("Waiting for the server\u2026");
    this.#listen();
  }

  #listen() {
    this.#source?.close();
    const query = this.#clusterId === null ? "" : `?cluster=${encodeURIComponent(this.#clusterId)}`;
    this.#source = new EventSource(`events${query}`);
    this.#source.addEventListener("clusters", (event) => this.#offer(JSON.parse(event.data)));
    this.#source.addEventListener("status", (event) => this.#show(JSON.parse(event.data)));
    this.#source.addEventListener("trouble", (event) => this.view.say(JSON.parse(event.data).message, true));
    this.#source.addEventListener("error", () => this.view.say(`No connection${this.#lastAt ? ` since ${this.#lastAt}` : ""}; trying again`, true));
  }

  #show({ status, rounds, seen, recorded_links: links }) {
    this.#lastAt = timeNow();
    this.view.show(status, rounds, seen === "live" ? null : { links });
    this.view.say(`${seen === "live" ? "Live" : "As stored"} \u00B7 ${this.#lastAt}`);
  }

  #offer({ clusters, chosen }) {
    const isSame = JSON.stringify(clusters) === this.choice.dataset.of;
    if (!isSame) {
      this.choice.dataset.of = JSON.stringify(clusters);
      this.choice.replaceChildren(...clusters.map((one) => h("option", { value: one.cluster_id }, `${one.name} \u00B7 ${one.status}`)));
    }
    this.choice.hidden = clusters.length < 2;
    if (chosen !== null) this.choice.value = chosen;
    if (!clusters.length) this.view.say("There is no cluster yet.");
  }

  #choose(clusterId) {
    this.#clusterId = clusterId;
    history.replaceState(null, "", `?cluster=${encodeURIComponent(clusterId)}`);
    this.view.clear();
    this.#listen();
  }

  #pause() {
    this.#source?.close();
    this.view.say(`Paused \u00B7 ${timeNow()}`);
  }
}

new HttpBridge();
