// The README's example, as it stands there, against the real server.
import { strict as assert } from "node:assert";
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { Reader } from "./reader.js";
import { Server, until } from "./server.js";

test("the README's example runs, and survives a restart of the server", async () => {
  const root = join(import.meta.dirname, "..");
  const [, code] = readFileSync(join(root, "README.md"), "utf8").match(/```js\n(.*?)```/s) ?? [];
  assert.ok(code);
  const file = join(root, "build", "readme-example.mjs");
  writeFileSync(file, code);
  const server = new Server();
  await server.start();
  const url = `ws://127.0.0.1:${server.port}/ws`;
  const program = spawn(process.execPath, [file], { env: { ...process.env, URL: url, TOKEN: server.token("carol") } });
  after(() => program.kill("SIGKILL"));
  let printed = "";
  for (const stream of [program.stdout, program.stderr]) stream.on("data", (bytes) => (printed += bytes));
  await until("it has sent", () => printed.includes("carol: Hello from the client") && printed.includes("stored at offset 1"));
  await server.kill("SIGKILL");
  await until("it notices", () => printed.includes("reconnecting"));
  await server.start();
  const anna = await new Reader("anna", url).enter(server.token("anna"), "lobby");
  await until("it is back", () => printed.match(/^connected$/gm)?.length === 2);
  await anna.say("lobby", "Welcome back");
  await until("it hears", () => printed.includes("anna: Welcome back"));
  assert.equal(printed.match(/Hello from the client/g)?.length, 1, printed);
});
