// The yardstick: Bun's WebSocket server speaking the same JSON, with none of the product behind it.
// It parses each message, joins rooms, and publishes one envelope to a room; it checks no identity, keeps no limit
// and stores nothing. Usage: bun bun.js PORT
const port = Number(process.argv[2]);

// Ids of Throng's length. A counter instead of a ULID: cheaper, so in Bun's favour.
let count = 0;
const eventId = () => "evt_01J" + String(++count).padStart(23, "0");
const envelope = (type, data, now) => JSON.stringify({ id: eventId(), type, data, timestamp: now });

const server = Bun.serve({
  hostname: "127.0.0.1",
  port,
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response("a WebSocket server", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    sendPings: false,
    idleTimeout: 0,
    message(ws, text) {
      const { id, type, data } = JSON.parse(text);
      const now = Date.now();
      switch (type) {
        case "heartbeat":
          ws.send(envelope("heartbeat_response", { timestamp: now, clientTimestamp: data.timestamp }, now));
          break;
        case "broadcast": {
          const { roomId, event, payload, includeSelf } = data;
          const event_ = envelope("broadcast", { roomId, userId: "user-00000", event, payload, timestamp: now }, now);
          if (includeSelf) server.publish(roomId, event_);
          else ws.publish(roomId, event_);
          break;
        }
        case "join_room":
          ws.subscribe(data.roomId);
          ws.send(envelope("ack", { requestId: id, result: { role: null } }, now));
          break;
        default:
          ws.send(envelope("error", { code: "unknown_type", requestId: id, type }, now));
      }
    },
  },
});
console.log(`listening on ${server.port}`);
