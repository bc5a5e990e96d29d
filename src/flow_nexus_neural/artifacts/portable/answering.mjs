// Answers as the exported cluster does with aggregation "mean": scaling, networks as WebAssembly, combination.
// Runs in Node 20 and in browsers; nothing is imported.

const CLIP = 6, EPSILON = 1e-6;

function standard(value, mean, sd) {
  return sd > 0 ? (value - mean) / sd : 0;
}

/** The numbers of a row, nested or not. Text is refused: as a number it would be missing or 0 without a word. */
function numbers(row, place) {
  if (!Array.isArray(row)) throw new Error(`row ${place} is no list of numbers in stored column order`);
  return row.flat(Infinity).map((value) => {
    if (value !== null && typeof value !== "number") {
      throw new Error(`row ${place} holds ${JSON.stringify(value)}: a value is a number, or null where it is missing`);
    }
    return value ?? NaN;
  });
}

/** Rows in the data's own units (NaN or null: missing) as float32 within 6 deviations, one array a row. */
export function scale(model, rows, symbols = []) {
  const width = model.columns.reduce((sum, column) => sum + column.mean.length, 0);
  return rows.map((row, number) => {
    const flat = numbers(row, number);
    return Float32Array.from(flat, (value, place) => {
      let at = place % width;
      const column = model.columns.find((one) => at < one.mean.length || ((at -= one.mean.length), false));
      let scaled = standard(value, column.mean[at], column.sd[at]);
      if (column.medians !== null) {
        const log = value > 0 ? Math.log(value) : NaN;
        const base = column.medians[symbols[number]];
        const [mean, sd] = column.pooled ?? [0, 0];
        scaled = base > 0 ? standard(log - Math.log(base), column.mean[at], column.sd[at]) : standard(log, mean, sd);
      }
      return Number.isNaN(scaled) ? 0 : Math.min(CLIP, Math.max(-CLIP, scaled));
    });
  });
}

/** A module of this export, ready to run. */
export async function load(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const e = instance.exports;
  const [input, output, inLd, outLd, most] =
    ["input", "output", "in_ld", "out_ld", "max_batch"].map((name) => e[name].value);
  return {
    /** Outputs of scaled rows, `width` of each. */
    run(rows, width) {
      const found = [];
      for (let start = 0; start < rows.length; start += most) {
        const part = rows.slice(start, start + most);
        const into = new Float32Array(e.memory.buffer, input, part.length * inLd);
        part.forEach((row, n) => {
          if (row.length !== inLd) throw new Error(`a row has ${row.length} values, the network takes ${inLd}`);
          into.set(row, n * inLd);
        });
        e.run(part.length);
        const out = new Float32Array(e.memory.buffer, output, part.length * outLd);
        part.forEach((_, n) => found.push(Array.from(out.subarray(n * outLd, n * outLd + width))));
      }
      return found;
    },
  };
}

function logProbabilities(logits) {
  const all = logits.length === 1 ? [0, logits[0]] : logits;
  const top = Math.max(...all);
  const log = top + Math.log(all.reduce((sum, one) => sum + Math.exp(one - top), 0));
  return all.map((one) => one - log);
}

function trimmed(answers, f) {
  return answers[0].map((_, place) => {
    const kept = answers.map((one) => one[place]).sort((a, b) => a - b).slice(f, answers.length - f);
    return kept.reduce((sum, one) => sum + one, 0) / kept.length;
  });
}

function calibrated(model, p) {
  const two = p.length === 2;
  const bounded = (one) => Math.min(1 - EPSILON, Math.max(EPSILON, one));
  if (two) p = [1 - bounded(p[1]), bounded(p[1])];
  if (model.calibrator === null) return p;
  const [factor, offset] = model.calibrator;
  const logs = p.map((one) => Math.log(Math.max(one, 1e-12)));
  if (two) {
    const one = bounded(1 / (1 + Math.exp(-((logs[1] - logs[0]) * factor + [offset].flat()[0]))));
    return [1 - one, one];
  }
  const offsets = Array.isArray(offset) ? offset : logs.map(() => offset);
  return logProbabilities(logs.map((one, n) => one * factor + offsets[n])).map(Math.exp);
}

/** Probabilities per class, or [value], of one row, from the logits of every slot. */
export function combine(model, slots) {
  if (model.task === "regression") {
    return trimmed(slots.map((one) => one.map((y) => y * model.target_sd + model.target_mean)), model.liars);
  }
  if (model.class_weight.length) {
    const logs = model.class_weight.map(Math.log);
    slots = slots.map((one) =>
      one.length === 1 ? [one[0] - (logs[1] - logs[0])] : one.map((y, n) => y - logs[n]));
  }
  if (model.liars) {
    const plain = slots[0].length === 1 ? slots : slots.map(logProbabilities);
    return calibrated(model, logProbabilities(trimmed(plain, model.liars)).map(Math.exp));
  }
  return calibrated(model, trimmed(slots.map((one) => logProbabilities(one).map(Math.exp)), 0));
}

/** Probabilities per class, or [value], of every row. `modules`: loaded modules by network. */
export function answer(model, modules, rows, symbols = []) {
  const x = scale(model, rows, symbols);
  const logits = {};
  for (const [key, module] of Object.entries(modules)) logits[key] = module.run(x, model.networks[key].outputs);
  return rows.map((_, n) => combine(model, model.slots.map((key) => logits[key][n])));
}
