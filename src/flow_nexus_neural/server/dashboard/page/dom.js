// Elements from data. Data becomes text nodes and attribute values, never markup: names are not trusted.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. Children: nodes, texts, lists of them; null and false are left out. */
function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element. */
function s(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An SVG picture with a title and a description for those who do not see it. */
function picture(id, { width, height, title, description }, ...children) {
  return s(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      "aria-labelledby": `${id}-title`,
      "aria-describedby": `${id}-description`,
    },
    s("title", { id: `${id}-title` }, title),
    s("desc", { id: `${id}-description` }, description),
    ...children,
  );
}

/**
 * A table with headers.
 * columns: [{ name, cell(row, index), isHeader, isNumber }]. It scrolls sideways where there is no room.
 */
function table(key, caption, columns, rows) {
  const head = columns.map((column) => h("th", { scope: "col", class: column.isNumber && "number" }, column.name));
  const body = rows.map((row, index) =>
    h(
      "tr",
      {},
      columns.map((column) =>
        h(
          column.isHeader ? "th" : "td",
          { scope: column.isHeader && "row", class: column.isNumber && "number" },
          column.cell(row, index),
        ),
      ),
    ),
  );
  return h(
    "div",
    { class: "scrolls", tabindex: "0", role: "region", "aria-label": caption, "data-key": key },
    h("table", {}, h("caption", { class: "unseen" }, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)),
  );
}

/** The same as a picture, in numbers, on demand. */
function asTable(key, caption, columns, rows) {
  return h(
    "details",
    { "data-key": key },
    h("summary", { "data-key": `${key}-summary` }, "As a table"),
    table(`${key}-table`, caption, columns, rows),
  );
}

/** Replace what is in a part of the page, and leave focus, open details and scroll positions as they were. */
function redraw(part, ...children) {
  const keyed = (root) => [...root.querySelectorAll("[data-key]")];
  const before = new Map(
    keyed(part).map((element) => [element.dataset.key, { open: element.open, left: element.scrollLeft }]),
  );
  const focused = part.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  part.replaceChildren(...children.flat(3).filter(Boolean));
  for (const element of keyed(part)) {
    const was = before.get(element.dataset.key);
    if (was === undefined) continue;
    if (was.open !== undefined) element.open = was.open;
    if (was.left) element.scrollLeft = was.left;
  }
  if (focused) keyed(part).find((element) => element.dataset.key === focused)?.focus({ preventScroll: true });
}
