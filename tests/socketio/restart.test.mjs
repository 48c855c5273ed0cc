// The server dies and comes back: clients reconnect by themselves, and the chat goes on where it was.
import { strict as assert } from "node:assert";
import { after, afterEach, before, describe, it } from "node:test";
import { TRANSPORTS, connected, endAll, join, once, range, reaches, roomName, say, texts } from "./clients.mjs";
import { pause } from "./raw.mjs";
import { Server, isReference } from "./server.mjs";

let server;
before(async () => { server = await Server.start(); });
after(() => server.stop());
afterEach(endAll);

for (const transports of Object.keys(TRANSPORTS)) {
  describe(`over ${transports}`, { skip: isReference }, () => {
    it("killed: everyone is back, in the room, with every message once", async () => {
      const room = roomName();
      const anna = await connected(server, { transports });
      const bob = await connected(server, { transports, user: "bob" });
      await join(anna, room);
      await join(bob, room);
      const heard = [texts(anna), texts(bob)];
      for (const message of range(0, 5)) await say(anna, room, message);
      for (const list of heard) await reaches(list, 5, "messages");
      const lost = [once(anna, "disconnect"), once(bob, "disconnect")];
      await server.kill("SIGKILL");
      await Promise.all(lost);
      const back = [once(anna, "connect"), once(bob, "connect")];
      await pause(200);
      await server.start();
      await Promise.all(back);
      for (const socket of [anna, bob]) {
        if (!socket.recovered) await join(socket, room);
      }
      for (const message of range(5, 10)) await say(bob, room, message);
      for (const list of heard) {
        await reaches(list, 10, "messages");
        assert.deepEqual(list, range(0, 10));
      }
    });

    it("stopped while one is away: rooms and what was said before come with the recovery", async () => {
      const room = roomName();
      const anna = await connected(server, { transports, reconnectionDelay: 4000, reconnectionDelayMax: 4000, randomizationFactor: 0 });
      const bob = await connected(server, { user: "bob" });
      await join(anna, room);
      await join(bob, room);
      const heard = texts(anna);
      await say(bob, room, "m0");
      await reaches(heard, 1, "messages");
      const { id } = anna;
      anna.io.engine.close();
      for (const message of range(1, 4)) await say(bob, room, message);
      const back = once(anna, "connect");
      assert.equal(await server.kill("SIGTERM"), 0);
      await server.start();
      await back;
      assert.equal(anna.recovered, true);
      assert.equal(anna.id, id);
      await reaches(heard, 4, "messages");
      await say(anna, room, "m4");
      await reaches(heard, 5, "messages");
      assert.deepEqual(heard, range(0, 5));
    });

    it("stopped under all: everyone recovers", async () => {
      const room = roomName();
      const anna = await connected(server, { transports });
      const bob = await connected(server, { transports, user: "bob" });
      await join(anna, room);
      await join(bob, room);
      const heard = [texts(anna), texts(bob)];
      await say(anna, room, "m0");
      for (const list of heard) await reaches(list, 1, "messages");
      const back = [once(anna, "connect"), once(bob, "connect")];
      assert.equal(await server.kill("SIGTERM"), 0);
      await server.start();
      await Promise.all(back);
      for (const socket of [anna, bob]) assert.equal(socket.recovered, true);
      await say(bob, room, "m1");
      for (const list of heard) {
        await reaches(list, 2, "messages");
        assert.deepEqual(list, ["m0", "m1"]);
      }
    });

    it("killed while one is away: not recovered, and the snapshot has what was said", async () => {
      const room = roomName();
      const anna = await connected(server, { transports, reconnectionDelay: 3000, reconnectionDelayMax: 3000, randomizationFactor: 0 });
      const bob = await connected(server, { user: "bob" });
      await join(anna, room);
      await join(bob, room);
      const heard = texts(anna);
      await say(bob, room, "m0");
      await reaches(heard, 1, "messages");
      anna.io.engine.close();
      for (const message of range(1, 4)) await say(bob, room, message);
      const back = once(anna, "connect");
      await server.kill("SIGKILL");
      await server.start();
      await back;
      if (anna.recovered) {
        await reaches(heard, 4, "messages");
        return assert.deepEqual(heard, range(0, 4));
      }
      const snapshot = once(anna, "room_joined");
      await join(anna, room);
      assert.deepEqual((await snapshot)[0].recentMessages.map(({ message }) => message), range(0, 4));
    });

    it("drained: the clients are told to come back, not to stay away", async () => {
      const anna = await connected(server, { transports });
      const lost = once(anna, "disconnect");
      const back = once(anna, "connect");
      const ended = server.kill("SIGTERM");
      const [reason] = await lost;
      assert.match(reason, /transport|ping/, "no DISCONNECT, after which a client does not try again");
      assert.equal(await ended, 0);
      await server.start();
      await back;
      await join(anna, roomName());
    });
  });
}
