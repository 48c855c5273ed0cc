/**
 * A network that fails on purpose: a TCP proxy that sees the WebSocket messages that pass, and at a chosen one cuts,
 * tears, mutes or freezes the connection.
 */
import { createServer, connect, type Server, type Socket } from "node:net";
import { after } from "node:test";
import { freshPort } from "./server.js";

export type Direction = "up" | "down";

/**
 * - `pass`.
 * - `tear`: half of the message's bytes, then nothing more; both ends are cut.
 * - `lose`: it does not arrive; both ends are cut.
 * - `deliver and cut`: it arrives, and nothing that follows from it comes back.
 * - `freeze`: it does not arrive, nor anything else, and nobody is told: half open.
 */
export type Fate = "pass" | "tear" | "lose" | "deliver and cut" | "freeze";

/** Decides on each message: its direction and text. */
export type Rule = (direction: Direction, text: string) => Fate;

export const allPass: Rule = () => "pass";

export class Proxy {
  rule: Rule = allPass;
  /** Messages with another fate than `pass`. */
  faults = 0;
  port = 0;
  connections = 0;
  #server: Server;
  #pairs = new Set<Pair>();

  /** `target`: port of the server, which may change. */
  constructor(readonly target: () => number) {
    this.#server = createServer((client) => {
      this.connections += 1;
      const pair = new Pair(client, connect(target(), "127.0.0.1"), this, () => this.#pairs.delete(pair));
      this.#pairs.add(pair);
    });
    after(() => {
      this.cutAll();
      this.#server.close();
    });
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}/ws`;
  }

  async start(): Promise<this> {
    for (;;) {
      this.port = freshPort();
      const isListening = await new Promise<boolean>((done) => {
        this.#server.once("error", () => done(false));
        this.#server.listen(this.port, "127.0.0.1", () => done(true));
      });
      if (isListening) return this;
    }
  }

  /** Without a word, wherever the streams stand. */
  cutAll(): void {
    for (const pair of this.#pairs) pair.cut();
  }

  /** The next message for which this holds meets that fate; all others pass. */
  once(fate: Fate, isIt: Rule extends (...args: infer A) => Fate ? (...args: A) => boolean : never): Promise<void> {
    return new Promise((met) => {
      this.rule = (direction, text) => {
        if (!isIt(direction, text)) return "pass";
        this.rule = allPass;
        met();
        return fate;
      };
    });
  }
}

class Pair {
  #isFrozen = false;

  constructor(
    readonly client: Socket,
    readonly server: Socket,
    readonly proxy: Proxy,
    readonly ended: () => void,
  ) {
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.on("close", () => this.#isFrozen || this.cut());
    }
    const up = new Messages((bytes, text) => this.#pass("up", bytes, text));
    const down = new Messages((bytes, text) => this.#pass("down", bytes, text));
    client.on("data", (bytes: Buffer) => up.push(bytes));
    server.on("data", (bytes: Buffer) => down.push(bytes));
  }

  cut(): void {
    this.client.destroy();
    this.server.destroy();
    this.ended();
  }

  /** `text`: null for what is no message, such as the handshake or a ping. */
  #pass(direction: Direction, bytes: Buffer, text: string | null): void {
    if (this.#isFrozen) return;
    const to = direction === "up" ? this.server : this.client;
    const fate = text === null ? "pass" : this.proxy.rule(direction, text);
    if (fate !== "pass") this.proxy.faults += 1;
    switch (fate) {
      case "pass":
        to.write(bytes);
        return;
      case "tear":
        to.end(bytes.subarray(0, bytes.length >> 1), () => this.cut());
        return;
      case "lose":
        return this.cut();
      case "deliver and cut":
        // Frozen for the one that sent it; the other gets it before the end.
        this.#isFrozen = true;
        to.end(bytes, () => this.ended());
        (direction === "up" ? this.client : this.server).destroy();
        return;
      case "freeze":
        this.#isFrozen = true;
    }
  }
}

/** Finds the messages in a stream of a WebSocket connection (RFC 6455, section 5.2), behind the HTTP head. */
class Messages {
  #bytes = Buffer.alloc(0);
  #isHead = true;

  constructor(readonly found: (bytes: Buffer, text: string | null) => void) {}

  push(more: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, more]);
    for (let end = this.#next(); end > 0; end = this.#next()) this.#bytes = this.#bytes.subarray(end);
  }

  /** Length of the first complete item, which is passed on; 0 if there is none yet. */
  #next(): number {
    const bytes = this.#bytes;
    if (this.#isHead) {
      const end = bytes.indexOf("\r\n\r\n") + 4;
      if (end < 4) return 0;
      this.#isHead = false;
      this.found(bytes.subarray(0, end), null);
      return end;
    }
    if (bytes.length < 2) return 0;
    const [first = 0, second = 0] = bytes;
    const short = second & 0x7f;
    const maskAt = short === 127 ? 10 : short === 126 ? 4 : 2;
    const isMasked = (second & 0x80) !== 0;
    const payloadAt = maskAt + (isMasked ? 4 : 0);
    if (bytes.length < payloadAt) return 0;
    const length = short === 127 ? Number(bytes.readBigUInt64BE(2)) : short === 126 ? bytes.readUInt16BE(2) : short;
    const end = payloadAt + length;
    if (bytes.length < end) return 0;
    const payload = Buffer.from(bytes.subarray(payloadAt, end));
    if (isMasked) for (let at = 0; at < length; at += 1) payload[at] = (payload[at] ?? 0) ^ (bytes[maskAt + (at % 4)] ?? 0);
    this.found(bytes.subarray(0, end), (first & 0x0f) === 1 ? payload.toString("utf8") : null);
    return end;
  }
}
