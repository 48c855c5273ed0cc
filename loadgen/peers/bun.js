// Peer: Bun's own WebSocket server. What it does is said in README.md. Usage: bun bun.js PORT
const { connectionEstablished, envelope, roomEvent } = require("./events.js");

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2]),
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response("a WebSocket server", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    sendPings: false,
    idleTimeout: 0,
    backpressureLimit: 16 << 20,
    open(ws) {
      ws.send(connectionEstablished());
    },
    message(ws, text) {
      const { id, type, data } = JSON.parse(text);
      const now = Date.now();
      switch (type) {
        case "heartbeat":
          ws.send(envelope("heartbeat_response", { timestamp: now, clientTimestamp: data.timestamp }, now));
          break;
        case "broadcast": {
          const event = envelope("broadcast", roomEvent(data, now), now);
          if (data.includeSelf) server.publish(data.roomId, event);
          else ws.publish(data.roomId, event);
          break;
        }
        case "join_room":
          ws.subscribe(data.roomId);
          ws.send(envelope("ack", { requestId: id, result: { role: null } }, now));
          break;
        case "activity":
          break;
        default:
          ws.send(envelope("error", { code: "unknown_type", retryable: false, type, requestId: id }, now));
      }
    },
  },
});
