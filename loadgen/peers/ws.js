// Peer: npm ws on Node.js. What it does is said in README.md. Usage: node ws.js PORT
const { WebSocketServer } = require("ws");
const { connectionEstablished, envelope, roomEvent } = require("./events.js");

const rooms = new Map();

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  perMessageDeflate: false,
  clientTracking: false,
});

server.on("connection", (ws) => {
  const joined = new Set();
  ws.send(connectionEstablished());
  ws.on("message", (text) => {
    const { id, type, data } = JSON.parse(text);
    const now = Date.now();
    switch (type) {
      case "heartbeat":
        ws.send(envelope("heartbeat_response", { timestamp: now, clientTimestamp: data.timestamp }, now));
        break;
      case "broadcast": {
        // Bytes made once: a string would be encoded again for each receiver.
        const event = Buffer.from(envelope("broadcast", roomEvent(data, now), now));
        for (const member of rooms.get(data.roomId) ?? []) {
          if (member !== ws || data.includeSelf) member.send(event, { binary: false });
        }
        break;
      }
      case "join_room": {
        if (!rooms.has(data.roomId)) rooms.set(data.roomId, new Set());
        rooms.get(data.roomId).add(ws);
        joined.add(data.roomId);
        ws.send(envelope("ack", { requestId: id, result: { role: null } }, now));
        break;
      }
      case "activity":
        break;
      default:
        ws.send(envelope("error", { code: "unknown_type", retryable: false, type, requestId: id }, now));
    }
  });
  ws.on("error", () => {});
  ws.on("close", () => {
    for (const roomId of joined) {
      const members = rooms.get(roomId);
      members.delete(ws);
      if (members.size === 0) rooms.delete(roomId);
    }
  });
});
