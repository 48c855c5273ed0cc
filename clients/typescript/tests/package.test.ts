// The package: what it holds, that both builds load, that its types say what it takes.
import { strict as assert } from "node:assert";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import * as esm from "@throng/client";

const root = join(import.meta.dirname, "..");
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

test("no dependency at run time, exact ones for development", () => {
  for (const kind of ["dependencies", "peerDependencies", "optionalDependencies"]) assert.equal(manifest[kind], undefined);
  for (const version of Object.values(manifest.devDependencies)) assert.match(String(version), /^\d+\.\d+\.\d+$/);
  assert.doesNotMatch(readFileSync(join(root, "package-lock.json"), "utf8"), /"resolved"/, "no address of a registry");
});

test("import and require give the same names", (context) => {
  const cjs = createRequire(import.meta.url)("@throng/client");
  assert.deepEqual(Object.keys(cjs).sort(), Object.keys(esm).sort());
  assert.notEqual(cjs.ThrongClient, esm.ThrongClient, "two builds");
  for (const { ThrongClient } of [esm, cjs]) {
    const client = new ThrongClient({ url: "ws://127.0.0.1:1/ws", WebSocket: class {} as never });
    assert.equal(client.getConnectionState(), "disconnected");
  }
  for (const build of ["esm", "cjs"]) {
    const files = readdirSync(join(root, "dist", build)).filter((file) => file.endsWith(".js"));
    const text = files.map((file) => readFileSync(join(root, "dist", build, file), "utf8")).join("\n");
    assert.doesNotMatch(text, /\b(?:from|require\() ?"(?!\.\/)/, "nothing from outside the package");
    context.diagnostic(`${build}: ${text.length} bytes, ${gzipSync(text).length} with gzip`);
  }
});

test("no WebSocket anywhere is said at once", () => {
  const globals = globalThis as { WebSocket?: unknown };
  const own = globals.WebSocket;
  delete globals.WebSocket;
  assert.throws(() => new esm.ThrongClient({ url: "ws://127.0.0.1:1/ws" }), /option `WebSocket`/);
  globals.WebSocket = class {};
  assert.ok(new esm.ThrongClient({ url: "ws://127.0.0.1:1/ws" }));
  globals.WebSocket = own;
});

// Never run: that it compiles, and that each marked line does not, is the test.
export function types(client: esm.ThrongClient): void {
  client.on("chat_message", ({ message, offset }) => message.slice(offset));
  client.on("state", ({ state }) => state === "connected");
  client.on("of_a_later_server", (data) => data["anything"]);
  void client.sendMessage("chat_message", { roomId: "lobby", message: "text" }).then(({ offset }) => offset + 1);
  void client.sendMessage("of_a_later_server", { anything: 1 });
  // @ts-expect-error: the result of a message has no such field
  void client.sendMessage("chat_message", { roomId: "lobby", message: "text" }).then(({ role }) => role);
  // @ts-expect-error: no such state
  client.on("state", ({ state }) => state === "open");
  // The browser's and Node's own WebSocket fit, and so do their storages.
  const socket: esm.SocketConstructor = WebSocket;
  const storage: esm.CommandStorage = {} as Storage;
  void [socket, storage];
}
