// Who is linked with whom, how fast a link is read, and what does not work.

const ROLES = [
  ["parameter_server", "parameter server"],
  ["aggregator", "aggregator"],
  ["worker", "worker"],
  ["validator", "validator"],
];
const ENGINE = "engine";
const RADIUS = 13;
const LABEL_ROOM = 88;

/** Positions of slots by name, in pixels, and the height that they take. */
function placed(topology, nodes, links, hub, width) {
  if (topology === "hierarchical") return inRows(nodes, links, hub, width);
  const height = Math.max(240, Math.min(380, width * 0.7));
  const center = { x: width / 2, y: height / 2 };
  const around = nodes.filter((node) => node.slot !== hub);
  const places = new Map(hub ? [[hub, center]] : []);
  const radius = { x: width / 2 - 46, y: height / 2 - 34 };
  around.forEach((node, index) => {
    const angle = (2 * Math.PI * index) / Math.max(1, around.length) - Math.PI / 2;
    places.set(node.slot, { x: center.x + radius.x * Math.cos(angle), y: center.y + radius.y * Math.sin(angle) });
  });
  return { places, height };
}

/** A row for each distance from the root, and a last one for nodes that nothing is linked to. */
function inRows(nodes, links, hub, width) {
  const most = Math.max(2, Math.floor((width - 20) / (2 * RADIUS + 8)));
  const server = nodes.find((node) => node.role === "parameter_server");
  const levels = [[hub ?? server?.slot ?? nodes[0].slot]];
  const left = new Set(nodes.map((node) => node.slot));
  while (levels.at(-1).length) {
    for (const name of levels.at(-1)) left.delete(name);
    const neighbours = (name) => links.flatMap((link) => (link.from === name ? [link.to] : link.to === name ? [link.from] : []));
    levels.push([...new Set(levels.at(-1).flatMap(neighbours))].filter((name) => left.has(name)));
  }
  const rows = [...levels, [...left]].flatMap((names) => {
    const parts = Math.ceil(names.length / most);
    const size = Math.ceil(names.length / parts);
    return Array.from({ length: parts || 0 }, (_, part) => names.slice(part * size, (part + 1) * size));
  });
  const places = new Map();
  rows.forEach((names, row) => {
    names.forEach((name, index) => places.set(name, { x: (width * (index + 0.5)) / names.length, y: 34 + row * 84 }));
  });
  return { places, height: 34 + Math.max(0, rows.length - 1) * 84 + 42 };
}

/** The vertex in the middle: the engine where it is linked, else in a star the node with most links. */
function hubOf(topology, links) {
  const ends = links.flatMap((link) => [link.from, link.to]);
  if (ends.includes(ENGINE)) return ENGINE;
  if (topology !== "star" || !ends.length) return null;
  const degree = (name) => ends.filter((end) => end === name).length;
  return ends.reduce((most, name) => (degree(name) > degree(most) ? name : most));
}

const SHAPES = {
  worker: (r) => s("circle", { r }),
  parameter_server: (r) => s("rect", { x: -r, y: -r, width: 2 * r, height: 2 * r, rx: 3 }),
  aggregator: (r) => s("path", { d: `M0 ${-r * 1.25}L${r * 1.25} 0L0 ${r * 1.25}L${-r * 1.25} 0Z` }),
  validator: (r) => s("path", { d: `M0 ${-r * 1.2}L${r * 1.2} ${r * 0.9}L${-r * 1.2} ${r * 0.9}Z` }),
  [ENGINE]: (r) => s("rect", { x: -26, y: -r, width: 52, height: 2 * r, rx: r }),
};

function vertex(slot, role, state, place, hasRoom) {
  const kind = STATES[state] ?? "off";
  const number = slot === ENGINE ? ENGINE : slot.split("-").at(-1);
  return s(
    "g",
    { class: `vertex ${kind}`, transform: `translate(${place.x.toFixed(1)} ${place.y.toFixed(1)})` },
    s("title", {}, state ? `${slot}: ${state}` : slot),
    SHAPES[role]?.(RADIUS) ?? SHAPES.worker(RADIUS),
    s("text", { class: "inside", y: role === "validator" ? 8 : 4, "text-anchor": "middle" }, number),
    kind === "bad" ? s("path", { class: "cross", d: `M${-RADIUS} ${-RADIUS}L${RADIUS} ${RADIUS}M${RADIUS} ${-RADIUS}L${-RADIUS} ${RADIUS}` }) : null,
    hasRoom && slot !== ENGINE ? s("text", { class: "label", y: RADIUS + 16, "text-anchor": "middle" }, slot) : null,
  );
}

/** Links as the server that has them tells, or of a copy those that were recorded last, of which no more is known. */
function linksOf(status, stored) {
  if (!stored) return status.links ?? [];
  const present = new Set([ENGINE, ...status.nodes.map((node) => node.slot)]);
  const edges = stored.links?.edges ?? [];
  return edges.filter((edge) => edge.every((name) => present.has(name))).map(([from, to]) => ({ from, to, latency_ms: null, fault: null, isRecorded: true }));
}

function drawTopology({ status, stored }, width) {
  const { nodes } = status;
  if (!nodes.length) return nothing("No node has been deployed yet.");
  const links = linksOf(status, stored);
  const topology = stored?.links?.topology ?? status.topology;
  const hub = hubOf(topology, links);
  const { places, height } = placed(topology, nodes, links, hub, width);
  const drawn = links.filter((link) => places.has(link.from) && places.has(link.to));
  const isSparse = drawn.length <= 14 && width >= 420;
  const lines = drawn.map((link) => {
    const [from, to] = [places.get(link.from), places.get(link.to)];
    return s("line", { class: link.fault ? "link broken" : link.isRecorded ? "link recorded" : "link", x1: from.x, y1: from.y, x2: to.x, y2: to.y });
  });
  const times = isSparse ? drawn.filter((link) => link.latency_ms !== null && !link.fault).map((link) => latencyLabel(link, places)) : [];
  const bySlot = new Map(nodes.map((node) => [node.slot, node]));
  const rowSizes = [...places.values()].map((place) => [...places.values()].filter((other) => Math.abs(other.y - place.y) < 20).length);
  const hasRoom = width / Math.max(...rowSizes) >= LABEL_ROOM;
  const vertices = [...places].map(([slot, place]) => {
    const node = bySlot.get(slot);
    return vertex(slot, node?.role ?? ENGINE, node?.status ?? null, place, hasRoom);
  });
  const broken = links.filter((link) => link.fault);
  const dead = nodes.filter((node) => node.healthy === false);
  const unknown = nodes.filter((node) => node.healthy === null);
  const description = [
    `${nodes.length} nodes in a ${topology}, ${links.length} links.`,
    dead.length ? `Not healthy: ${dead.map((node) => `${node.slot} (${node.status})`).join(", ")}.` : unknown.length ? "" : "All nodes are healthy.",
    unknown.length ? `Of ${unknown.length} nodes it is not known how they are.` : "",
    broken.length ? `${broken.length} links do not work.` : "",
  ].join(" ");
  return [
    roleLegend(nodes),
    picture("topology", { width, height, title: `Links of the nodes, ${topology}`, description }, lines, times, vertices),
    stored ? recordedSentence(stored.links, links) : linkSentence(status, links, broken),
    links.length ? linkTable(links) : null,
  ];
}

function roleLegend(nodes) {
  const icon = (role) => s("svg", { width: 18, height: 18, viewBox: "-18 -18 36 36", "aria-hidden": "true", class: "vertex off" }, SHAPES[role](RADIUS));
  const present = ROLES.filter(([role]) => nodes.some((node) => node.role === role));
  return h("ul", { class: "legend" }, present.map(([role, name]) => h("li", {}, icon(role), name)));
}

function latencyLabel(link, places) {
  const [from, to] = [places.get(link.from), places.get(link.to)];
  return s(
    "text",
    { class: "latency", x: from.x + 0.6 * (to.x - from.x), y: from.y + 0.6 * (to.y - from.y) + 4, "text-anchor": "middle" },
    worded(link.latency_ms, "ms"),
  );
}

function linkSentence(status, links, broken) {
  if (status.links === null || status.links === undefined) return h("p", { class: "note" }, "The nodes are not linked: neural_cluster_connect links them, again after each start of the server.");
  const known = links.map((link) => link.latency_ms).filter((latency) => latency !== null);
  const range = known.length ? `read in ${worded(Math.min(...known), "ms")} to ${worded(Math.max(...known), "ms")}` : `latency ${NOT_MEASURED}`;
  return h("p", { class: "note" }, `${links.length - broken.length} of ${links.length} links work; ${range}.`);
}

function recordedSentence(recorded, links) {
  if (!recorded) return h("p", { class: "note" }, "The nodes were never linked.");
  const said = `${links.length} links as recorded last, ${clockTime(recorded.at)}; whether they work and how fast they are read only the server knows.`;
  return h("p", { class: "note" }, said);
}

function linkTable(links) {
  return asTable(
    "topology-as",
    "Links and their latency",
    [
      { name: "Link", isHeader: true, cell: (link) => `${link.from} \u2013 ${link.to}` },
      { name: "Latency", isNumber: true, cell: (link) => worded(link.latency_ms, "ms") },
      { name: "Works", cell: (link) => (link.fault ? `no: ${link.fault}` : link.isRecorded ? "not known" : "yes") },
    ],
    links,
  );
}
