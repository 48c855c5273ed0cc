// npm engine.io-client, without Socket.IO above it: sessions, the upgrade, binary messages.
import { strict as assert } from "node:assert";
import { after, before, describe, it } from "node:test";
import { TRANSPORTS } from "./clients.mjs";
import { within } from "./raw.mjs";
import { Server, isReference } from "./server.mjs";
import { EngineSocket } from "./tools.mjs";

let server;
before(async () => { server = await Server.start({ appEvents: true }); });
after(() => server.stop());

const PATHS = isReference ? ["/socket.io"] : ["/socket.io", "/engine.io"];

for (const path of PATHS) {
  for (const transports of Object.keys(TRANSPORTS)) {
    describe(`${path} over ${transports}`, () => {
      it("opens, talks, upgrades and ends", async () => {
        const socket = new EngineSocket(server.url, { path, transports: TRANSPORTS[transports] });
        const messages = [];
        let wake = () => {};
        socket.on("message", (message) => { messages.push(message); wake(); });
        const next = async (start) => {
          for (;;) {
            const at = messages.findIndex((message) => typeof message === "string" && message.startsWith(start));
            if (at >= 0) return messages.splice(0, at + 1).at(-1);
            await within(new Promise((done) => { wake = done; }), start);
          }
        };
        const upgraded = new Promise((done) => socket.once("upgrade", done));
        await within(new Promise((done) => socket.once("open", done)), "open");
        socket.send(`0${JSON.stringify({ token: server.token("anna") })}`);
        await next("0{");
        socket.send('21["join_room",{"roomId":"engine"}]');
        await next("31[");
        if (transports === "upgrading") await within(upgraded, "an upgrade");
        assert.equal(socket.transport.name, transports === "polling" ? "polling" : "websocket");
        socket.send('51-2["blob",{"_placeholder":true,"num":0}]');
        socket.send(Buffer.from([1, 2, 3]));
        await next("32[");
        const ended = new Promise((done) => socket.once("close", done));
        socket.close();
        assert.equal(await within(ended, "close"), "forced close");
      });
    });
  }
}
