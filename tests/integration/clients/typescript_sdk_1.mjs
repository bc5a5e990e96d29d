// The TypeScript SDK 1.x. Usage: node typescript_sdk_1.mjs (COMMAND ARGUMENTS... | URL)
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ResourceUpdatedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { lifecycle } from "./lifecycle.mjs";

const [command, ...args] = process.argv.slice(2);
const client = new Client({ name: "typescript-sdk-1", version: "1.0.0" });
const transport = command.startsWith("http:")
  ? new StreamableHTTPClientTransport(new URL(command))
  : new StdioClientTransport({ command, args, stderr: "inherit" });
await client.connect(transport);
const done = await lifecycle(client, async (uri, told) => {
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, (message) => told(message.params.uri));
  await client.subscribeResource({ uri });
});
console.log(JSON.stringify({ server: client.getServerVersion().name, ...done }));
await client.close();
