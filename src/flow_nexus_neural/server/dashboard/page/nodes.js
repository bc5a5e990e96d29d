// Every node in one line, and those that are gone.

function drawNodes({ status }) {
  if (!status.nodes.length) return nothing("No node has been deployed yet.");
  const number = (name, field, how) => ({ name, isNumber: true, cell: (_, index) => shown(status, `nodes.${index}.${field}`, how) });
  const columns = [
    { name: "Node", isHeader: true, cell: (node) => [node.slot, h("small", {}, node.node_id)] },
    { name: "Role", cell: (node) => node.role.replaceAll("_", " ") },
    { name: "State", cell: (node) => [badge(node.status), node.last_error ? h("small", { class: "fault" }, node.last_error) : null] },
    number("Loss", "loss", "loss"),
    number("Rounds", "rounds_done", "count"),
    number("Rows", "rows", "count"),
    number("Parameters", "parameters", "count"),
    {
      name: "Memory",
      isNumber: true,
      cell: (node, index) => [
        shown(status, `nodes.${index}.memory_bytes`, "bytes"),
        h("small", {}, "of ", shown(status, `nodes.${index}.memory_limit_bytes`, "bytes")),
      ],
    },
    number("Links", "connections", "count"),
    number("Start", "incarnation", "count"),
    { name: "Isolation", cell: (_, index) => shown(status, `nodes.${index}.isolation_level`, "word") },
  ];
  return [table("nodes", "Nodes of the cluster", columns, status.nodes), status.retired_nodes.length ? drawRetired(status.retired_nodes) : null];
}

function drawRetired(retired) {
  return h(
    "details",
    { "data-key": "retired" },
    h("summary", { "data-key": "retired-summary" }, `Processes that are gone (${retired.length})`),
    table(
      "retired-table",
      "Processes that are gone",
      [
        { name: "Slot", isHeader: true, cell: (node) => node.slot },
        { name: "Node", cell: (node) => node.node_id },
        { name: "Start", isNumber: true, cell: (node) => String(node.incarnation) },
        { name: "Reason", cell: (node) => node.reason ?? "not known" },
      ],
      retired,
    ),
  );
}
