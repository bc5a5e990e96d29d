// The TypeScript client 2.x. Usage: node typescript_client_2.mjs (default|auto) (COMMAND ARGUMENTS... | URL)
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { lifecycle } from "./lifecycle.mjs";

const [mode, command, ...args] = process.argv.slice(2);
const options = mode === "auto" ? { versionNegotiation: { mode: "auto" } } : {};
const client = new Client({ name: "typescript-client-2", version: "1.0.0" }, options);
const transport = command.startsWith("http:")
  ? new StreamableHTTPClientTransport(new URL(command))
  : new StdioClientTransport({ command, args, stderr: "inherit" });
await client.connect(transport);
const done = await lifecycle(client, async (uri, told) => {
  client.setNotificationHandler("notifications/resources/updated", (message) => told(message.params.uri));
  if (mode === "auto") await client.listen({ resourceSubscriptions: [uri] });
  else await client.subscribeResource({ uri });
});
console.log(JSON.stringify({ protocol: client.getNegotiatedProtocolVersion(), ...done }));
await client.close();
