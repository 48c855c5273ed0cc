/** Commands of the application and their answers: what waits, what is under way, what has to be repeated. */
import { kindOf } from "./commands.js";
import type { Effects } from "./effects.js";
import { encode, isLongerThan, isObject, type Json } from "./envelope.js";
import { localError, type ThrongError } from "./errors.js";
import type { Link } from "./link.js";
import { type Entry, LIFE_MS, Outbox, RETRY_MS, type Stored } from "./outbox.js";
import { Recovery } from "./recovery.js";

/** A command whose promise is open and that is not in the outbox. */
interface Pending {
  since: number;
  /** `join`: waits for its room. `leave`: done, too, when the connection is gone. */
  kind: "request" | "join" | "leave";
  /** Of a `refresh_token`: takes the place of the old one when accepted. */
  token: string | null;
}

export interface TrafficSettings {
  queueMax: number;
  messageBytesMax: number;
}

export interface TrafficPorts {
  readonly effects: Effects;
  newId(): string;
  readyLink(): Link | null;
  /** Whose commands these are; null before the first `connect`. */
  userId(): string | null;
  tokenAccepted(token: string, result: unknown): void;
}

export class Traffic {
  readonly recovery: Recovery;
  readonly #outbox: Outbox;
  #pending = new Map<string, Pending>();
  #order = 0;
  #isExpiryArmed = false;

  constructor(
    private readonly settings: TrafficSettings,
    private readonly ports: TrafficPorts,
  ) {
    this.#outbox = new Outbox(settings.queueMax);
    this.recovery = new Recovery({
      effects: ports.effects,
      newId: () => ports.newId(),
      readyLink: () => ports.readyLink(),
      sawMessage: (data) => this.#sawMessage(data),
      settle: (id, error, result) => this.#settle(id, error, result),
    });
  }

  /** Durable commands that were not answered yet, in order. */
  waiting(): Stored[] {
    return this.#outbox.list();
  }

  // ------------------------------------------------------------ commands

  isUsed(id: string): boolean {
    return this.#outbox.has(id) || this.#pending.has(id);
  }

  /** `id` is not in use. Its answer comes as effect `settle`. */
  command(id: string, type: string, data: unknown, now: number): void {
    const json = toJson(data);
    const refusal = this.#refusal(id, type, json, now);
    if (refusal || json === null) return this.#settle(id, refusal, undefined);
    const kind = kindOf(type);
    if (kind === "durable") return this.#keep({ id, type, data: json, since: now, order: (this.#order += 1) }, now);
    const fields = JSON.parse(json) as Json;
    const roomId = typeof fields["roomId"] === "string" ? fields["roomId"] : "";
    if (kind === "join") {
      this.#expect(id, "join", now);
      return this.recovery.want(roomId, fields, id, now);
    }
    const link = this.ports.readyLink();
    if (kind === "leave") {
      this.recovery.leave(roomId);
      // Without a connection there is no subscription to end.
      if (!link && fields["permanent"] !== true) return this.#settle(id, null, {});
    }
    if (!link) return this.#settle(id, localError("not_connected"), undefined);
    link.sendJson(id, type, json, now);
    if (kind === "live") return this.#settle(id, null, undefined);
    const token = type === "refresh_token" && typeof fields["token"] === "string" ? fields["token"] : null;
    this.#expect(id, kind === "leave" && fields["permanent"] !== true ? "leave" : "request", now, token);
  }

  #refusal(id: string, type: string, json: string | null, now: number): ThrongError | null {
    if (json === null || kindOf(type) === "own") return localError("invalid_argument");
    if (isLongerThan(encode(id, type, json, now), this.settings.messageBytesMax)) return localError("message_too_long");
    return kindOf(type) === "durable" && this.#outbox.isFull ? localError("queue_full") : null;
  }

  #expect(id: string, kind: Pending["kind"], now: number, token: string | null = null): void {
    this.#pending.set(id, { since: now, kind, token });
    this.#armExpiry(now);
  }

  #keep(stored: Stored, now: number): void {
    this.#outbox.add(stored);
    this.#store(stored);
    this.#armExpiry(now);
    this.flush(now);
  }

  #store(entry: Stored): void {
    const userId = this.ports.userId();
    if (userId !== null) this.ports.effects.push({ do: "store", userId, entry });
  }

  /** The user is known: what earlier pages left goes first, and what waits already is stored. */
  restore(found: Stored[], now: number): void {
    for (const stored of this.#outbox.list()) this.#store(stored);
    this.#outbox.restore(found);
    this.#armExpiry(now);
  }

  /** Sends what may go now; called whenever that may have changed. */
  flush(now: number): void {
    const link = this.ports.readyLink();
    if (!link || link.isEnding) return;
    const { send, lookAt } = this.#outbox.due(now, (lane, isRestored) => this.recovery.rooms.isOpen(lane, isRestored));
    for (const { id, type, data } of send) link.sendJson(id, type, data, now);
    if (lookAt !== null) this.ports.effects.start("resend", lookAt - now);
  }

  // ------------------------------------------------------------ answers

  answered(requestId: unknown, error: ThrongError | null, result: unknown, now: number): void {
    const id = typeof requestId === "string" ? requestId : "";
    if (this.recovery.answered(id, error, result, now)) {
      // A room was joined, or given up: its messages may go, or learn why not.
      return this.flush(now);
    }
    if (this.#outbox.has(id)) {
      if (error?.retryable) this.#delay(id, error, now);
      else this.#settle(id, error, result);
      return this.flush(now);
    }
    const pending = this.#pending.get(id);
    if (!pending) {
      // A refused live command: its promise is long done.
      if (error) this.ports.effects.tell("error", error);
      return;
    }
    if (pending.token !== null && !error) this.ports.tokenAccepted(pending.token, result);
    this.#settle(id, error, result);
  }

  #delay(id: string, error: ThrongError, now: number): void {
    const retryInMs = error.retryAfterMs ?? RETRY_MS;
    this.#outbox.retryLater(id, now + retryInMs);
    this.ports.effects.tell("delayed", { id, error, retryInMs });
  }

  /** The ack may be lost, but the message itself shows that it was stored. */
  #sawMessage(data: Json): void {
    const { clientId, userId, id: messageId, offset, epoch, timestamp } = data;
    if (userId !== this.ports.userId() || typeof clientId !== "string" || !this.#outbox.has(clientId)) return;
    this.#settle(clientId, null, { messageId, offset, epoch, timestamp, duplicate: true });
  }

  #settle(id: string, error: ThrongError | null, result: unknown): void {
    this.#pending.delete(id);
    const entry = this.#outbox.remove(id);
    if (entry) this.#tellSettled(entry, error, result);
    this.ports.effects.push({ do: "settle", id, error, result });
  }

  #tellSettled({ id, type, data }: Entry, error: ThrongError | null, result: unknown): void {
    const userId = this.ports.userId();
    if (userId !== null) this.ports.effects.push({ do: "unstore", userId, id });
    this.ports.effects.tell("settled", { id, type, data: JSON.parse(data) as Json, error, result });
  }

  // ------------------------------------------------------------ ends

  #armExpiry(now: number): void {
    if (this.#isExpiryArmed) return;
    let oldest = this.#outbox.oldest;
    for (const { since } of this.#pending.values()) {
      oldest = Math.min(oldest ?? since, since);
      break; // in order of time
    }
    if (oldest === null) return;
    this.#isExpiryArmed = true;
    this.ports.effects.start("expiry", Math.max(0, oldest + LIFE_MS - now));
  }

  /** The timer: all that is too old fails. */
  expire(now: number): void {
    this.#isExpiryArmed = false;
    for (const { id } of this.#outbox.expired(now)) this.#settle(id, localError("timeout"), undefined);
    for (const [id, { since, kind }] of [...this.#pending]) {
      if (now - since < LIFE_MS) break;
      if (kind === "join") this.recovery.expire(id);
      this.#settle(id, localError("timeout"), undefined);
    }
    this.#armExpiry(now);
    this.flush(now);
  }

  linkLost(): void {
    this.ports.effects.stop("resend", "rejoin");
    this.recovery.linkLost();
    this.#outbox.linkLost();
    for (const [id, { kind }] of [...this.#pending]) {
      if (kind === "request") this.#settle(id, localError("connection_lost"), undefined);
      else if (kind === "leave") this.#settle(id, null, {});
    }
  }

  /** Everything that waits fails: the application disconnected, or another user takes over. */
  abandon(isForgotten: boolean): void {
    this.#isExpiryArmed = false;
    this.ports.effects.stop("expiry", "resend", "rejoin");
    this.recovery.abandon(localError("disconnected"), isForgotten);
    for (const { id } of this.#outbox.list()) this.#settle(id, localError("disconnected"), undefined);
    for (const id of [...this.#pending.keys()]) this.#settle(id, localError("disconnected"), undefined);
  }
}

/** Null for what is no object, or cannot be written. */
function toJson(data: unknown): string | null {
  try {
    const json: string | undefined = JSON.stringify(data ?? {});
    return json !== undefined && isObject(JSON.parse(json)) ? json : null;
  } catch {
    return null;
  }
}
