// Draws neural_cluster_view in a real Chromium under the policy of the specification, and looks at what is there.
// node view.mjs DIR PYTHON OUT: DIR has the node modules; prints one JSON object, writes pictures to OUT.
import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, python, out] = process.argv.slice(2);
const require = createRequire(path.resolve(modules, "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { Client } = await load("@modelcontextprotocol/client");
const { StdioClientTransport } = await load("@modelcontextprotocol/client/stdio");
const { chromium } = require("playwright-core");
const esbuild = require("esbuild");

/** The default of the specification, section "Host Behavior", with the directives that the sandbox adds. */
const POLICY =
  "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;" +
  " media-src 'self' data:; connect-src 'none'; frame-src 'none'; object-src 'none'; base-uri 'self'";
const NAME = process.env.VIEW_NAME ?? "desk <img src=x onerror=alert(1)>"; // markup, were it ever taken for it

const state = fs.mkdtempSync(path.join(out, "state-"));
const client = new Client(
  { name: "test-host", version: "1" },
  { capabilities: { extensions: { "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=mcp-app"] } } } },
);
const freePort = () => new Promise((resolve) => { const server = net.createServer().listen(0, "127.0.0.1", () => { const { port } = server.address(); server.close(() => resolve(String(port))); }); });
const transport = new StdioClientTransport({ command: python, args: ["-m", "flow_nexus_neural", "--state-dir", state, "--dashboard", await freePort()], stderr: "pipe" });
const live = new Promise((resolve) => transport.stderr.on("data", (text) => { const found = /http:\S+/.exec(String(text)); if (found) resolve(found[0]); }));
await client.connect(transport);
const call = async (name, args) => {
  const result = await client.callTool({ name, arguments: args });
  if (result.isError) throw new Error(JSON.stringify(result.content));
  return result;
};

const { cluster_id } = (await call("neural_cluster_init", { name: NAME, topology: "hierarchical", seed: 1, daaEnabled: false })).structuredContent;
const layers = [{ type: "dense", units: 8, activation: "relu" }];
await call("neural_node_deploy", { cluster_id, count: 4, layers });
for (const role of ["parameter_server", "aggregator", "validator"]) await call("neural_node_deploy", { cluster_id, role });
await call("neural_cluster_connect", { cluster_id });
await call("neural_train_distributed", { cluster_id, dataset: "synthetic:xor", federated: true, rounds: 8, seed: 1, learning_rate: 0.01 });
for (let status = "running"; status === "running"; ) status = (await call("neural_cluster_status", { cluster_id, wait_seconds: 25, until: "done" })).structuredContent.training_status;
const width = (await call("neural_cluster_status", { cluster_id, detail: "full" })).structuredContent;
for (let k = 0; k < 12; k += 1) await client.callTool({ name: "neural_predict_distributed", arguments: { cluster_id, input_data: [0.3 * k - 2, 1] } });
// Two more: a regression in a star whose links have all one end, and a mesh of which nothing was measured yet.
const star = (await call("neural_cluster_init", { name: "values", topology: "star", seed: 1, daaEnabled: false })).structuredContent.cluster_id;
await call("neural_node_deploy", { cluster_id: star, count: 5, layers });
await call("neural_cluster_connect", { cluster_id: star });
const records = Array.from({ length: 120 }, (_, k) => ({ a: k % 7, b: k % 11, price: 3 * (k % 7) - (k % 11) + (k % 5) }));
await call("neural_train_distributed", { cluster_id: star, dataset: { records }, target: "price", epochs: 3, seed: 1 });
for (let status = "running"; status === "running"; ) status = (await call("neural_cluster_status", { cluster_id: star, wait_seconds: 25, until: "done" })).structuredContent.training_status;
await call("neural_predict_distributed", { cluster_id: star, input_data: { a: 3, b: 4 } });
const mesh = (await call("neural_cluster_init", { name: "mesh of six", topology: "mesh", seed: 1, daaEnabled: false })).structuredContent.cluster_id;
await call("neural_node_deploy", { cluster_id: mesh, count: 6, layers });
await call("neural_cluster_connect", { cluster_id: mesh });
const victim = width.nodes.find((node) => node.slot === "worker-2");
process.kill(victim.pid, "SIGKILL");
await call("neural_cluster_status", { cluster_id, wait_seconds: 5, until: "change" });

const tool = (await client.listTools()).tools.find((one) => one.name === "neural_cluster_view");
const results = {};
for (const id of [cluster_id, star, mesh]) results[id] = await call("neural_cluster_view", { cluster_id: id });
const result = results[cluster_id];
const html = (await client.readResource({ uri: tool._meta.ui.resourceUri })).contents[0].text;

const bundle = await esbuild.build({
  entryPoints: [path.join(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), "host_page.mjs")],
  bundle: true, write: false, format: "esm", nodePaths: [path.resolve(modules, "node_modules")], logLevel: "error",
});
const listen = (handler) => new Promise((resolve) => { const server = http.createServer(handler).listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}/`)); });
const send = (reply, body, headers = {}) => { reply.writeHead(200, { "content-type": "text/html", ...headers }); reply.end(body); };
const PROXY = `<!doctype html><body style="margin:0"><script>
const inner = document.createElement("iframe"); inner.sandbox = "allow-scripts"; inner.style.cssText = "border:0;width:100%;height:100vh;display:block";
addEventListener("message", (event) => {
  if (event.source === parent) {
    if (event.data.method === "ui/notifications/sandbox-resource-ready") { inner.src = "view"; document.body.append(inner); }
    else inner.contentWindow.postMessage(event.data, "*");
  } else if (event.source === inner.contentWindow) parent.postMessage(event.data, "*");
});
parent.postMessage({ jsonrpc: "2.0", method: "ui/notifications/sandbox-proxy-ready", params: {} }, "*");
</script>`;
const sandbox = await listen((request, reply) => (request.url === "/view" ? send(reply, html, { "content-security-policy": POLICY }) : send(reply, PROXY)));
const host = await listen((request, reply) => (request.url === "/host.js" ? send(reply, bundle.outputFiles[0].text, { "content-type": "text/javascript" }) : send(reply, '<!doctype html><html lang="en"><title>host</title><body style="margin:0"><script type="module" src="host.js"></script>')));

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const report = { troubles: [], calls: [], views: {} };
const answered = {};
const LOOKS = [[320, "light"], [320, "dark"], [1200, "light"], [1200, "dark"]];
const SHOWN = [[cluster_id, "", LOOKS], [star, "star-", [LOOKS[0], LOOKS[3]]], [mesh, "mesh-", [LOOKS[1], LOOKS[2]]]];
/** A page of which every trouble is noted. */
const newPage = async (size) => {
  const page = await browser.newPage({ viewport: { width: size, height: size === 320 ? 4600 : 2400 } });
  page.on("console", (message) => { if (["error", "warning"].includes(message.type()) && !message.text().includes("favicon") && !message.text().includes("404")) report.troubles.push(message.text()); });
  page.on("pageerror", (error) => report.troubles.push(error.message));
  page.on("dialog", (dialog) => { report.troubles.push("a dialog"); dialog.dismiss(); });
  return page;
};
const measured = (frame) => frame.evaluate(() => ({
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  scheme: document.documentElement.style.colorScheme,
  background: getComputedStyle(document.body).backgroundColor,
  images: document.querySelectorAll("img").length,
  heading: document.querySelector("h1").textContent,
  text: document.querySelector("main").innerText,
  unnamed: [...document.querySelectorAll("section, svg[role=img], table, [tabindex]")].filter((one) => !one.getAttribute("aria-label") && !one.getAttribute("aria-labelledby") && !one.querySelector("caption")).length,
  dead: document.querySelectorAll(".vertex.bad").length,
  links: document.querySelectorAll("line.link").length,
  recorded: document.querySelectorAll("line.link.recorded").length,
  numbers: [...document.querySelectorAll("[data-path]")].map((one) => [one.dataset.path, one.dataset.how, one.textContent]),
}));
for (const [id, prefix, size, theme] of SHOWN.flatMap(([id, prefix, looks]) => looks.map((look) => [id, prefix, ...look]))) {
  const page = await newPage(size);
  await page.exposeFunction("hostSetup", () => ({ sandbox, theme, opened: { html, arguments: { cluster_id: id }, result: results[id] } }));
  await page.exposeFunction("hostCall", async (params) => { report.calls.push(params.name); return (answered[id] = await client.callTool(params)); });
  await page.exposeFunction("hostRead", (params) => client.readResource(params));
  await page.goto(host);
  let view;
  for (let k = 0; k < 100 && !(view = page.frames().find((one) => one.url().endsWith("/view"))); k += 1) await page.waitForTimeout(100);
  await view.waitForSelector("#topology-title", { state: "attached", timeout: 15000 });
  await page.waitForTimeout(600);
  await page.screenshot({ path: path.join(out, `view-${prefix}${size}-${theme}.png`), fullPage: true });
  if (size === 1200 && !prefix) await page.screenshot({ path: path.join(out, `readme-${theme}.png`), clip: { x: 0, y: 0, width: 1200, height: 1270 }, fullPage: true });
  report.views[`${prefix}${size}-${theme}`] = await measured(view);
  if (prefix === "star-" && size === 320) {
    // The theme changes while the view is open, and back.
    for (const [next, name] of [["dark", "star-changed"], ["light", "star-back"]]) {
      await page.evaluate((to) => window.setTheme(to), next);
      await view.waitForFunction((to) => document.documentElement.style.colorScheme === to, next);
      report.views[name] = await measured(view);
      await page.screenshot({ path: path.join(out, `view-${name}.png`), fullPage: true });
    }
  }
  if (size === 1200 && theme === "light" && !prefix) {
    await view.focus("[data-key=curves-chart]");
    await page.keyboard.press("End");
    report.reading = await view.textContent(".reading");
    report.tree = await view.locator("main").ariaSnapshot();
  }
  await page.close();
}
for (const [id, prefix] of SHOWN) {
  const first = results[id]._meta["flow-nexus-neural/status"];
  report[`${prefix}first`] = first;
  report[`${prefix}status`] = answered[id]?.structuredContent ?? first;
}
// The same page for people, of the server itself: what happens is drawn without asking.
const watched = await newPage(1200);
await watched.goto(`${await live}?cluster=${mesh}`);
await watched.waitForSelector("line.link", { state: "attached", timeout: 30000 });
report.views.live = await measured(watched);
await call("neural_cluster_connect", { cluster_id: mesh, topology: "ring" });
await watched.waitForFunction(() => document.querySelectorAll("line.link").length === 6, null, { timeout: 30000 });
report.views.relinked = await measured(watched);
await watched.screenshot({ path: path.join(out, "live-1200-light.png"), fullPage: true });
// And of what is stored while the server has it.
const dashboard = spawn(python, ["-m", "flow_nexus_neural", "--state-dir", state, "dashboard"], { stdio: ["ignore", "pipe", "ignore"] });
const address = await new Promise((resolve) => dashboard.stdout.once("data", (line) => resolve(String(line).trim())));
const stored = await newPage(1200);
await stored.goto(`${address}?cluster=${cluster_id}`);
await stored.waitForSelector("line.link.recorded", { state: "attached", timeout: 30000 });
await stored.screenshot({ path: path.join(out, "stored-1200-light.png"), fullPage: true });
report.views.stored = await measured(stored);
report.choices = await stored.locator("select option").allTextContents();
dashboard.kill("SIGTERM");
await browser.close();
for (const [id] of SHOWN) await call("neural_cluster_terminate", { cluster_id: id, delete_artifacts: true });
await client.close();
fs.rmSync(state, { recursive: true, force: true });
process.stdout.write(JSON.stringify(report), () => process.exit(0));
