// One life of a cluster, through whatever client is given. Prints one line of JSON; throws at the first surprise.
// The client validates every result against the published output schema.
import assert from "node:assert/strict";

const LAYERS = [{ type: "dense", units: 8, activation: "tanh" }];

function inlineXor() {
  const X = [];
  const y = [];
  for (let row = 0; row < 240; row += 1) {
    const [a, b] = [row % 2, (row >> 1) % 2];
    X.push([a + 0.01 * (row % 7), b - 0.01 * (row % 5)]);
    y.push(a ^ b);
  }
  return { X, y };
}

// `watch(uri, told)` subscribes to a resource in the way of the client's era and calls `told(uri)` for each update.
export async function lifecycle(client, watch) {
  const call = async (name, args) => {
    const answer = await client.callTool({ name, arguments: args });
    assert.ok(!answer.isError, `${name}: ${answer.content[0]?.text}`);
    assert.equal(answer.structuredContent.success, true);
    assert.deepEqual(JSON.parse(answer.content[0].text), answer.structuredContent);
    return answer.structuredContent;
  };

  const { tools } = await client.listTools();
  assert.equal(tools.length, 11);
  const typed = (tool) => tool.name === "neural_cluster_plot" || tool.outputSchema?.type === "object"; // a plot is a picture
  assert.ok(tools.every(typed));

  const cluster = await call("neural_cluster_init", { name: "typed client", topology: "ring", seed: 3 });
  const cluster_id = cluster.id;
  const heard = [];
  await watch(`neural://clusters/${cluster_id}`, (uri) => heard.push(uri));
  for (const slot of ["worker-0", "worker-1"]) {
    const node = await call("neural_node_deploy", { cluster_id, layers: LAYERS });
    assert.equal(node.slot, slot);
    assert.equal(node.parameters, null); // the width of the input is unknown before the first training
  }
  const fresh = await call("neural_cluster_status", { cluster_id });
  assert.equal(fresh.global_loss, null);
  assert.equal(fresh.training, null);
  assert.equal((await call("neural_cluster_connect", { cluster_id })).connections, 1);
  const training = await call("neural_train_distributed", {
    cluster_id, dataset: inlineXor(), epochs: 30, learning_rate: 0.05,
  });
  assert.equal(training.dataset_info.rows, 240);

  let status;
  do {
    status = await call("neural_cluster_status", { cluster_id, wait_seconds: 20, until: "done" });
  } while (status.training_status === "running");
  assert.equal(status.training_status, "completed", status.training_error);
  assert.ok(status.global_accuracy > status.evaluation.baseline_accuracy + 0.2, `${status.global_accuracy}`);

  const one = await call("neural_predict_distributed", { cluster_id, input_data: { f0: 1, f1: 0 } });
  assert.ok(one.prediction > 0.5, `${one.prediction}`);
  assert.equal(one.probabilities, null);
  const batch = await call("neural_predict_distributed", {
    cluster_id, input_data: JSON.stringify([{ f0: 1, f1: 0 }, { f0: 1, f1: 1 }]),
  });
  assert.equal(batch.prediction, null);
  assert.equal(batch.predictions[0], one.prediction);
  assert.ok(batch.predictions[1] < 0.5);

  const wrong = await client.callTool({ name: "neural_cluster_status", arguments: { cluster_id: "nowhere" } });
  assert.equal(wrong.isError, true);
  assert.match(wrong.content[0].text, /^cluster_not_found: .+\. .+/);
  assert.ok(wrong.content[0].text.includes(cluster_id));
  assert.equal(wrong.structuredContent, undefined);

  assert.ok(heard.includes(`neural://clusters/${cluster_id}`));
  const { contents } = await client.readResource({ uri: `neural://clusters/${cluster_id}/history` });
  assert.equal(JSON.parse(contents[0].text).rounds.length, status.training.total_rounds);
  const prompt = await client.getPrompt({ name: "plan_cluster", arguments: { goal: "tell odd from even" } });
  assert.ok(prompt.messages[0].content.text.includes("tell odd from even"));
  const { completion } = await client.complete({
    ref: { type: "ref/resource", uri: "neural://clusters/{cluster_id}" },
    argument: { name: "cluster_id", value: "dnc_" },
  });
  assert.equal(completion.values[0], cluster_id); // the newest first

  const ended = await call("neural_cluster_terminate", { cluster_id, delete_artifacts: true });
  assert.equal(ended.nodes_terminated, 2);
  return { accuracy: status.global_accuracy, prediction: one.prediction };
}
