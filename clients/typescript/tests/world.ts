/** A world without network and time: sockets that the test opens, feeds and closes; a clock that the test moves. */
import { strict as assert } from "node:assert";
import { type ConnectionState, type Events, type Options, ThrongClient } from "@throng/client";

interface Timer {
  at: number;
  run: () => void;
}

export interface SentFrame {
  id: string;
  type: string;
  data: Record<string, any>;
}

export class FakeSocket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  sent: SentFrame[] = [];
  /** As the client closed it: a code, or "cut". */
  closedBy: number | "cut" | null = null;
  closeReason = "";
  /** Whether it takes part in anything any more. */
  isOpen = true;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {}

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(code?: number, reason?: string): void {
    this.closedBy = code ?? "cut";
    this.closeReason = reason ?? "";
    this.isOpen = false;
  }

  /** Those of a type. */
  of(type: string): SentFrame[] {
    return this.sent.filter((frame) => frame.type === type);
  }

  /** The newest one of a type. */
  last(type: string): SentFrame {
    const frame = this.of(type).at(-1);
    assert.ok(frame, `no ${type} was sent, but ${this.sent.map((each) => each.type)}`);
    return frame;
  }

  // What the server and the network do.

  says(type: string, data: Record<string, unknown> = {}): void {
    this.onmessage?.({ data: JSON.stringify({ id: "evt_1", type, data, timestamp: 0 }) });
  }

  acks(frame: SentFrame, result: Record<string, unknown> = {}): void {
    this.says("ack", { requestId: frame.id, result });
  }

  refuses(frame: SentFrame, code: string, retryable = false, more: Record<string, unknown> = {}): void {
    this.says("error", { code, message: code, retryable, requestId: frame.id, ...more });
  }

  closes(code: number, reason = ""): void {
    this.isOpen = false;
    this.onclose?.({ code, reason });
  }
}

export class World {
  now = 1_700_000_000_000;
  sockets: FakeSocket[] = [];
  /** Every event by type, in order. */
  seen: [string, any][] = [];
  random = 0.5;
  readonly client: ThrongClient;
  #timers = new Map<number, Timer>();
  #timerCount = 0;

  constructor(options: Partial<Options> = {}) {
    const world = this;
    class Socket extends FakeSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        world.sockets.push(this);
      }
    }
    this.client = new ThrongClient({
      url: "wss://throng.test/ws",
      WebSocket: Socket,
      random: () => this.random,
      clock: {
        now: () => this.now,
        setTimeout: (run, ms) => {
          this.#timers.set((this.#timerCount += 1), { at: this.now + ms, run });
          return this.#timerCount;
        },
        clearTimeout: (timer) => this.#timers.delete(timer as number),
      },
      ...options,
    });
    this.watch("state", "recovered", "room_lost", "delayed", "settled", "stopped", "max_reconnect_attempts", "error", "unknown");
  }

  watch(...types: (keyof Events)[]): void {
    for (const type of types) this.client.on(type, (data) => this.seen.push([type, data]));
  }

  of(type: string): any[] {
    return this.seen.filter(([each]) => each === type).map(([, data]) => data);
  }

  get states(): ConnectionState[] {
    return this.of("state").map(({ state }) => state);
  }

  get timers(): number {
    return this.#timers.size;
  }

  /** Milliseconds until each timer. */
  get waits(): number[] {
    return [...this.#timers.values()].map(({ at }) => at - this.now).sort((one, other) => one - other);
  }

  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    assert.ok(socket, "no socket");
    return socket;
  }

  get openSockets(): FakeSocket[] {
    return this.sockets.filter((socket) => socket.isOpen);
  }

  /** Lets promises go on. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 5; turn += 1) await new Promise((done) => setImmediate(done));
  }

  /** Moves the clock; timers fire in their order. */
  async pass(ms: number): Promise<void> {
    const until = this.now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= until).sort(([, one], [, other]) => one.at - other.at)[0];
      if (!due) break;
      const [name, timer] = due;
      this.#timers.delete(name);
      this.now = Math.max(this.now, timer.at);
      timer.run();
      await this.settle();
    }
    this.now = until;
    await this.settle();
  }

  established(more: Record<string, unknown> = {}): Record<string, unknown> {
    const n = this.sockets.length;
    return {
      connectionId: `conn_${n}`, sessionId: `sess_${n}`, resumeToken: `resume_${n}`, userId: "anna",
      expiresAt: this.now + 3_600_000, heartbeatMs: 30_000, timestamp: this.now, ...more,
    };
  }

  /** From `connect` to connected; the first connection has nothing to resume. */
  async connect(token: Parameters<ThrongClient["connect"]>[1] = "token-1"): Promise<FakeSocket> {
    void this.client.connect("anna", token);
    await this.settle();
    return this.signIn();
  }

  /** The newest socket opens and signs in. */
  signIn(more: Record<string, unknown> = {}): FakeSocket {
    const { socket } = this;
    socket.onopen?.();
    socket.acks(socket.last("auth"), { userId: "anna" });
    socket.says("connection_established", this.established(more));
    return socket;
  }

  /** After a lost connection: waits for the next one and signs in. */
  async signInAgain(): Promise<FakeSocket> {
    const count = this.sockets.length;
    for (let tries = 0; this.sockets.length === count && tries < 40; tries += 1) await this.pass(1000);
    return this.signIn();
  }

  /** And answers the resume. */
  async comeBack(rooms: Record<string, unknown>[] = []): Promise<FakeSocket> {
    const socket = await this.signInAgain();
    socket.acks(socket.last("resume"), { connectionId: "conn_n", resumeToken: `again_${this.sockets.length}`, rooms });
    await this.settle();
    return socket;
  }

  /** Joins a room on the given socket, with its snapshot. */
  async join(socket: FakeSocket, roomId: string, offset = 0): Promise<void> {
    void this.client.sendMessage("join_room", { roomId });
    socket.acks(socket.last("join_room"), { role: null });
    socket.says("room_state", state(roomId, offset));
    await this.settle();
  }
}

export function state(roomId: string, offset: number, more: Record<string, unknown> = {}): Record<string, unknown> {
  const users = { users: [], onlineUsers: [], onlineCount: 1 };
  return { roomId, roomInfo: {}, recentMessages: [], ...users, role: null, epoch: "E", offset, timestamp: 0, ...more };
}

export function message(roomId: string, offset: number, more: Record<string, unknown> = {}): Record<string, unknown> {
  return { id: `msg_${offset}`, roomId, userId: "bob", message: `text ${offset}`, epoch: "E", offset, ...more };
}

/** The error of a promise that must fail. */
export async function failure(promise: Promise<unknown>): Promise<any> {
  return promise.then(
    (value) => assert.fail(`did not fail, but gave ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );
}
