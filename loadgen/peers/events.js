// What the JavaScript peers say, in Throng's form. Ids have its length and come from a counter instead of a ULID: cheaper, so in
// the peers' favour.
let count = 0;
const eventId = () => "evt_01J" + String(++count).padStart(23, "0");

const envelope = (type, data, now) => JSON.stringify({ id: eventId(), type, data, timestamp: now });

// No identity is checked, so every sender has the same name.
const roomEvent = ({ roomId, event, payload }, now) => ({ roomId, userId: "user-00000", event, payload, timestamp: now });

const connectionEstablished = () => {
  const now = Date.now();
  return envelope("connection_established", { userId: "user-00000", heartbeatMs: 30000, timestamp: now }, now);
};

module.exports = { connectionEstablished, envelope, roomEvent };
