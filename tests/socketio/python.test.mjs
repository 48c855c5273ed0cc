// PyPI python-socketio: connect, ack, event, refusal, bytes, over each transport (python_client.py).
import { strict as assert } from "node:assert";
import { execFile } from "node:child_process";
import { after, before, it } from "node:test";
import { fileURLToPath } from "node:url";
import { roomName } from "./clients.mjs";
import { Server } from "./server.mjs";
import { python } from "./tools.mjs";

let server;
before(async () => { server = await Server.start({ appEvents: true }); });
after(() => server.stop());

for (const transport of ["websocket", "polling", "both"]) {
  it(`over ${transport}`, async () => {
    const script = fileURLToPath(new URL("python_client.py", import.meta.url));
    const tokens = [server.token("anna"), server.token("bob"), server.token("anna", { exp: 1 })];
    const [code, output] = await new Promise((done) => {
      execFile(python, [script, server.url, transport, roomName(), ...tokens], { timeout: 120000 }, (error, stdout, stderr) => {
        done([error ? error.code ?? error.signal : 0, stdout + stderr]);
      });
    });
    assert.equal(code, 0, output);
  });
}
