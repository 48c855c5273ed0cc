// The connection: one socket at a time, requests and their answers, and coming back as close codes ask for.
// It knows no rooms and touches no page.

const BACKOFF_MS = 1000;
const BACKOFF_MAX_MS = 30000;
const STEADY_MS = 10000; // connected this long: the next back-off starts from the beginning
const ANSWER_MS = 10000; // no frame this long after a heartbeat: the link is dead

// Each message's id is also its client id, so a repeat cannot double it; unique per page load.
const idPrefix = Math.random().toString(36).slice(2, 10) + Date.now().toString(36);
let idCount = 0;
export const newId = () => `${idPrefix}-${++idCount}`;

// What a close code asks of a client (product section 4): "sign in", "stop", "range" or "back off".
export function afterClose(code) {
  if (code >= 4001 && code <= 4004) return "sign in";
  if ([1000, 1002, 1003, 1007, 1009].includes(code) || (code >= 4000 && code <= 4099)) return "stop";
  return code >= 4200 && code <= 4299 ? "range" : "back off";
}

export class Link {
  isReady = false;
  #socket = null;
  #attempt = 0;
  #range = null; // from server_closing
  #timers = {};
  #lastHeard = 0;
  #requests = new Map(); // id → what to do with the answer

  // `on`: ready(data), event(type, data), error(error), state(state, text), signIn(reason), stopped(reason).
  constructor(url, token, on) {
    Object.assign(this, { url, token, on });
  }

  connect() {
    this.#stopTimers();
    this.on.state("connecting", "Connecting");
    const socket = new WebSocket(this.url, ["throng.v1"]);
    this.#socket = socket;
    this.#range = null;
    // The token goes into a first frame, not into the handshake: a browser does not tell a refused handshake (401)
    // from a broken network, but it shows close code 4002.
    socket.onopen = () => this.request("auth", { token: this.token }, () => {});
    socket.onmessage = (event) => socket === this.#socket && this.#heard(event.data);
    socket.onclose = (event) => socket === this.#socket && this.#closed(event.code, event.reason);
  }

  // Sends one command; `done(error, result)` gets its answer, unless the link breaks first.
  request(type, data, done, id = newId()) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    if (done) this.#requests.set(id, done);
    this.#socket.send(JSON.stringify({ id, type, data, timestamp: Date.now() }));
  }

  #heard(text) {
    this.#lastHeard = Date.now();
    const { type, data = {} } = JSON.parse(text);
    if (type === "ack") this.#answered(data.requestId, null, data.result ?? {});
    else if (type === "error") this.#answered(data.requestId, data);
    else if (type === "connection_established") this.#ready(data);
    else if (type === "server_closing") this.#range = data;
    else this.on.event(type, data);
  }

  #answered(id, error, result) {
    const done = this.#requests.get(id);
    this.#requests.delete(id);
    if (done) done(error, result);
    else if (error) this.on.error(error);
  }

  #ready(data) {
    this.isReady = true;
    this.#timers.steady = setTimeout(() => { this.#attempt = 0; }, STEADY_MS);
    this.#timers.heartbeat = setInterval(() => this.#heartbeat(), data.heartbeatMs || 30000);
    this.on.ready(data);
  }

  #heartbeat() {
    const sentAt = Date.now();
    this.request("heartbeat", { timestamp: sentAt });
    this.#timers.answer = setTimeout(() => {
      if (this.#lastHeard >= sentAt) return;
      const socket = this.#socket;
      this.#closed(1006, "");
      socket?.close();
    }, ANSWER_MS);
  }

  #closed(code, reason) {
    this.#stopTimers();
    this.#socket = null;
    this.isReady = false;
    this.#requests.clear();
    switch (afterClose(code)) {
      case "sign in":
        this.on.state("stopped", "Signed out");
        return this.on.signIn(reason || "The token was not accepted");
      case "stop":
        this.on.state("stopped", "Disconnected");
        return this.on.stopped(reason || "The server ended the connection");
      case "range": {
        const { retryMinMs = 0, retryMaxMs = 10000 } = this.#range ?? {};
        return this.#retryIn(retryMinMs + Math.random() * Math.max(0, retryMaxMs - retryMinMs));
      }
      default:
        this.#attempt += 1;
        this.#retryIn(Math.random() * Math.min(BACKOFF_MS * 2 ** (this.#attempt - 1), BACKOFF_MAX_MS));
    }
  }

  #retryIn(ms) {
    const at = Date.now() + ms;
    const show = () => {
      this.on.state("reconnecting", `Reconnecting in ${Math.max(0, Math.ceil((at - Date.now()) / 1000))} s`);
    };
    this.#timers.retry = setTimeout(() => this.connect(), ms);
    this.#timers.countdown = setInterval(show, 250);
    show();
  }

  // For the impatient, and for when the network is back.
  retryNow() {
    if (this.#timers.retry) this.connect();
  }

  #stopTimers() {
    for (const timer of Object.values(this.#timers)) {
      clearTimeout(timer);
      clearInterval(timer);
    }
    this.#timers = {};
  }
}
