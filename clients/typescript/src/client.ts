/** The client: does what {@link Machine} wants done, with sockets, timers, storage and handlers. */
import { type Commands } from "./commands.js";
import type { Effect, TimerName, TokenReason } from "./effects.js";
import { localError, ThrongError } from "./errors.js";
import type { ClientEvents, ConnectionState, Events } from "./events.js";
import { Handlers } from "./handlers.js";
import { Machine } from "./machine.js";
import { type Clock, idSource, type Options, settingsOf, type Socket, type SocketConstructor, socketConstructor, systemClock,
  type TokenProvider } from "./options.js";
import { CommandStore } from "./storage.js";

interface Promised<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(error: ThrongError): void;
}

export interface SendOptions {
  /** The command's id, 1 to 64 characters; the server knows a repeated message by it. Default: a new one. */
  id?: string;
}

export class ThrongClient {
  readonly #machine: Machine;
  readonly #handlers = new Handlers();
  readonly #store: CommandStore;
  readonly #clock: Clock;
  readonly #newId = idSource();
  readonly #WebSocket: SocketConstructor;
  readonly #sockets = new Map<number, Socket>();
  readonly #timers = new Map<TimerName, unknown>();
  readonly #answers = new Map<string, Promised<unknown>>();
  #connecting: Promised<void> | null = null;
  #provider: TokenProvider = () => null;
  #isRunning = false;
  #effects: Effect[] = [];

  /** Throws TypeError if the address or the WebSocket is missing. Does not connect yet. */
  constructor(options: Options) {
    this.#WebSocket = socketConstructor(options);
    this.#clock = options.clock ?? systemClock;
    const chance = { random: options.random ?? Math.random, newId: this.#newId };
    this.#machine = new Machine(settingsOf(options), chance);
    this.#store = new CommandStore(options.storage ?? null, options.storagePrefix ?? "throng", (thrown) =>
      this.#handlers.tell("error", localError("storage_failed", thrown)));
    const on = <T extends keyof ClientEvents>(type: T, handler: ((data: ClientEvents[T]) => void) | undefined) =>
      handler && this.#handlers.on(type, handler);
    on("state", options.onStateChange);
    on("recovered", options.onRecovered);
    on("stopped", options.onStopped);
    on("max_reconnect_attempts", options.onMaxReconnectAttemptsReached);
    on("unknown", options.onUnknown);
    on("error", options.onError);
  }

  /** Calls `handler` for each event of the type. Returns what takes it away again. */
  on<T extends keyof Events>(type: T, handler: (data: Events[T]) => void): () => void;
  on(type: string, handler: (data: Record<string, unknown>) => void): () => void;
  on(type: string, handler: (data: never) => void): () => void {
    return this.#handlers.on(type, handler);
  }

  /**
   * Connects, and stays connected until `disconnect` or a close code that says stop. Does nothing if it does so already.
   * The promise is kept at the first connection; it fails if the client stops before.
   *
   * `userId` must be the token's user. Another user than the last one begins anew: nothing of the other's is sent.
   */
  connect(userId: string, token: string | TokenProvider): Promise<void> {
    if (this.getConnectionState() !== "disconnected") return this.#connecting?.promise ?? Promise.resolve();
    this.#provider = typeof token === "string" ? () => token : token;
    const connecting = (this.#connecting = promised<void>());
    this.#machine.connect(userId, typeof token !== "string", this.#store.load(userId), this.#clock.now());
    this.#run();
    return connecting.promise;
  }

  /**
   * Closes with 1000; no timer is left. All that waits fails with `disconnected`. Rooms and positions are kept for the next
   * `connect` of the same user, unless `forget` is set, as for a sign-out.
   */
  disconnect({ forget = false }: { forget?: boolean } = {}): void {
    this.#machine.disconnect(forget);
    this.#run();
  }

  /**
   * Sends a command; the promise is the ack's result, or fails with a {@link ThrongError}. Messages are kept while there is
   * no connection, and repeated until answered; live commands and requests fail with `not_connected`.
   */
  sendMessage<T extends keyof Commands>(type: T, data: Commands[T]["data"], options?: SendOptions): Promise<Commands[T]["result"]>;
  sendMessage(type: string, data?: unknown, options?: SendOptions): Promise<unknown>;
  sendMessage(type: string, data?: unknown, options: SendOptions = {}): Promise<unknown> {
    const id = options.id ?? this.#newId();
    const answer = promised<unknown>();
    if (this.#answers.has(id) || this.#machine.traffic.isUsed(id)) {
      answer.reject(localError("conflict"));
      return answer.promise;
    }
    this.#answers.set(id, answer);
    this.#machine.command(id, type, data, this.#clock.now());
    this.#run();
    return answer.promise;
  }

  /** For `sendMessage`, by who needs the id before: unlike any other, on this and every other machine. */
  newId(): string {
    return this.#newId();
  }

  getConnectionState(): ConnectionState {
    return this.#machine.connection.state;
  }

  isConnected(): boolean {
    return this.getConnectionState() === "connected";
  }

  /** Ends the wait of `reconnecting`: for when the network is back, or for an impatient user. */
  retryNow(): void {
    this.#machine.connection.retryNow(this.#clock.now());
    this.#run();
  }

  /** Durable commands that were not answered yet, in order. */
  pending(): { id: string; type: string; data: Record<string, unknown>; since: number }[] {
    return this.#machine.traffic.waiting().map(({ id, type, data, since }) => ({ id, type, data: JSON.parse(data), since }));
  }

  // ------------------------------------------------------------ effects

  /** Handlers may call the client again: what that brings is done after what is being done. */
  #run(): void {
    this.#effects.push(...this.#machine.effects.take());
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      for (let effect = this.#effects.shift(); effect; effect = this.#effects.shift()) {
        this.#do(effect);
        this.#effects.push(...this.#machine.effects.take());
      }
    } finally {
      this.#isRunning = false;
    }
  }

  #do(effect: Effect): void {
    switch (effect.do) {
      case "open":
        return this.#open(effect.link, effect.url);
      case "send":
        return this.#sockets.get(effect.link)?.send(effect.text);
      case "close":
        return this.#close(effect.link, effect.code, effect.reason);
      case "start":
        return this.#start(effect.timer, effect.ms);
      case "stop":
        return this.#stop(effect.timer);
      case "ask token":
        return this.#askToken(effect.ask, effect.reason);
      case "connected":
        return this.#connected(effect.error);
      case "settle":
        return this.#settle(effect.id, effect.error, effect.result);
      case "store":
        return this.#store.store(effect.userId, effect.entry);
      case "unstore":
        return this.#store.remove(effect.userId, effect.id);
      case "tell":
        return this.#handlers.tell(effect.type, effect.data as never);
      case "dispatch":
        return this.#handlers.dispatch(effect.type, effect.data);
    }
  }

  #open(link: number, url: string): void {
    const now = () => this.#clock.now();
    let socket: Socket;
    try {
      socket = new this.#WebSocket(url, ["throng.v1"]);
    } catch {
      return this.#machine.closed(link, 1006, "");
    }
    this.#sockets.set(link, socket);
    const is = () => this.#sockets.get(link) === socket;
    const told = (tell: () => void) => {
      if (!is()) return;
      tell();
      this.#run();
    };
    socket.onopen = () => told(() => this.#machine.opened(link, now()));
    socket.onmessage = (event: { data: unknown }) => told(() => this.#machine.received(link, event.data, now()));
    socket.onclose = (event: { code: number; reason: string }) =>
      told(() => {
        this.#sockets.delete(link);
        this.#machine.closed(link, event.code, event.reason);
      });
    socket.onerror = () => {}; // a close follows
  }

  #close(link: number, code?: number, reason?: string): void {
    const socket = this.#sockets.get(link);
    if (!this.#sockets.delete(link) || !socket) return;
    try {
      if (code !== undefined) socket.close(code, reason);
      else if (socket.terminate) socket.terminate();
      else socket.close();
    } catch {
      // It was closed already.
    }
  }

  #start(timer: TimerName, ms: number): void {
    this.#stop(timer);
    const fire = () => {
      this.#timers.delete(timer);
      this.#machine.fired(timer, this.#clock.now());
      this.#run();
    };
    this.#timers.set(timer, this.#clock.setTimeout(fire, ms));
  }

  #stop(timer: TimerName): void {
    if (!this.#timers.has(timer)) return;
    this.#clock.clearTimeout(this.#timers.get(timer));
    this.#timers.delete(timer);
  }

  #askToken(ask: number, reason: TokenReason): void {
    const asked = Promise.resolve(reason).then(this.#provider);
    asked.then(
      (token) => this.#machine.tokenGiven(ask, typeof token === "string" ? token : null, this.#clock.now()),
      (thrown: unknown) => this.#machine.tokenFailed(ask, localError("token_failed", thrown)),
    ).then(() => this.#run());
  }

  #connected(error: ThrongError | null): void {
    if (error) this.#connecting?.reject(error);
    else this.#connecting?.resolve();
    if (error) this.#connecting = null;
  }

  #settle(id: string, error: ThrongError | null, result: unknown): void {
    const answer = this.#answers.get(id);
    this.#answers.delete(id);
    if (error) answer?.reject(error);
    else answer?.resolve(result);
  }
}

/** A promise that may fail without anyone listening: events tell the same. */
function promised<T>(): Promised<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: ThrongError) => void;
  const promise = new Promise<T>((kept, broken) => {
    resolve = kept;
    reject = broken;
  });
  promise.catch(() => {});
  return { promise, resolve, reject };
}
