// Numbers as text. What is null was not measured, and is never shown as a number.

const NOT_MEASURED = "not measured";

const FORMATS = {
  word: (value) => value,
  count: (value) => value.toLocaleString("en"),
  share: (value) => `${(100 * value).toFixed(1)} %`,
  loss: (value) => String(Number(value.toPrecision(4))),
  ms: (value) => `${value < 0.1 ? Number(value.toPrecision(2)) : value < 10 ? value.toFixed(2) : value.toFixed(1)} ms`,
  seconds: (value) => duration(value),
  percent: (value) => `${value.toFixed(0)} %`,
  bytes: (value) => {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    for (; value >= 1000 && unit < units.length - 1; unit += 1) value /= 1000;
    return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
  },
};

function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** A number as text; how: a name in FORMATS. */
function worded(value, how) {
  return value === null || value === undefined ? NOT_MEASURED : FORMATS[how](value);
}

/** What stands at a path of the status, like "latency.p95" or "nodes.3.loss"; null where there is nothing. */
function at(status, path) {
  const found = path.split(".").reduce((value, name) => (value === null || value === undefined ? value : value[name]), status);
  return found ?? null;
}

/**
 * An element that shows the number at a path of the status, and says which one it is.
 * Every number on the page comes from here, or from the lists that the pictures are drawn of.
 */
function shown(status, path, how) {
  const value = at(status, path);
  return h("span", { class: value === null ? "unknown" : "value", "data-path": path, "data-how": how }, worded(value, how));
}

/** A label of a class as text. */
function labelled(label) {
  return typeof label === "string" ? label : JSON.stringify(label);
}

/** A time of the day from a moment in ISO 8601. */
function clockTime(moment) {
  const date = new Date(moment);
  return Number.isNaN(date.getTime()) ? String(moment) : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}
