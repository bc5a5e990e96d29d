// A host's page: the official AppBridge, and the sandbox proxy on another origin that the specification asks for.
import { AppBridge, PostMessageTransport } from "@modelcontextprotocol/ext-apps/app-bridge";

const { sandbox, opened, theme } = await window.hostSetup();
const frame = document.createElement("iframe");
frame.title = "view";
frame.style.cssText = "border:0;width:100%;height:400px;display:block";
document.body.append(frame);
const bridge = new AppBridge(
  null,
  { name: "test-host", version: "1" },
  { serverTools: {}, serverResources: {} },
  { hostContext: { theme, styles: { variables: { "--font-sans": "sans-serif" } }, displayMode: "inline" } },
);
bridge.oncalltool = (params) => window.hostCall(params);
bridge.onreadresource = (params) => window.hostRead(params);
bridge.addEventListener("sizechange", ({ height }) => (frame.style.height = `${height}px`));
bridge.addEventListener("sandboxready", () => bridge.sendSandboxResourceReady({ html: opened.html }));
bridge.addEventListener("initialized", async () => {
  await bridge.sendToolInput({ arguments: opened.arguments });
  await bridge.sendToolResult(opened.result);
});
window.setTheme = (next) => bridge.setHostContext({ theme: next });
await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
frame.src = sandbox;
