// node predict.mjs rows.json: prints probabilities per class, or values, of the rows, in stored column order.
// rows.json: [[...], ...], or {"rows": [[...], ...], "symbols": [...]}; null is a missing value.
import { readFile } from "node:fs/promises";
import { answer, load } from "./answering.mjs";

const here = (name) => new URL(name, import.meta.url);
const asked = JSON.parse(await readFile(process.argv[2] ?? here("examples.json"), "utf8"));
const model = JSON.parse(await readFile(here("model.json"), "utf8"));
const modules = {};
for (const [key, { file }] of Object.entries(model.networks)) modules[key] = await load(await readFile(here(file)));
const rows = Array.isArray(asked) ? asked : asked.rows;
console.log(JSON.stringify(answer(model, modules, rows, asked.symbols ?? [])));
