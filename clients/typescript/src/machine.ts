/**
 * The client without input and output: what happened and the time go in, effects come out ({@link Effects}).
 *
 * Every method is one event. After each, `effects.take()` are to be done in their order. `now` is Unix milliseconds.
 */
import { Connection, type ConnectionSettings } from "./connection.js";
import { Effects, type TimerName } from "./effects.js";
import { decode, isObject } from "./envelope.js";
import { localError, serverError, type ThrongError } from "./errors.js";
import type { Link } from "./link.js";
import type { Stored } from "./outbox.js";
import { Traffic, type TrafficSettings } from "./traffic.js";

export interface Chance {
  /** In [0, 1): the jitter of the back-off. */
  random(): number;
  /** Never the same twice, not even in another process: the server recognises repeats by it. */
  newId(): string;
}

export class Machine {
  readonly effects = new Effects();
  readonly connection: Connection;
  readonly traffic: Traffic;

  constructor(settings: ConnectionSettings & TrafficSettings, chance: Chance) {
    const { effects } = this;
    this.connection = new Connection(settings, {
      effects,
      newId: () => chance.newId(),
      random: () => chance.random(),
      resumable: () => this.traffic.recovery.resumable(),
      ready: (resumed, now) => this.#ready(resumed, now),
      lost: () => this.traffic.linkLost(),
    });
    this.traffic = new Traffic(settings, {
      effects,
      newId: () => chance.newId(),
      readyLink: () => (this.connection.link?.isReady ? this.connection.link : null),
      userId: () => this.connection.userId,
      tokenAccepted: (token, result) => this.connection.tokenAccepted(token, result),
    });
  }

  // ------------------------------------------------------------ from the application

  /** Only in state `disconnected`. `stored`: what earlier pages of this user left. */
  connect(userId: string, hasProvider: boolean, stored: Stored[], now: number): void {
    const { userId: previous } = this.connection;
    if (previous !== null && previous !== userId) this.traffic.abandon(true);
    this.connection.connect(userId, hasProvider, now);
    this.traffic.restore(stored, now);
  }

  disconnect(isForgotten: boolean): void {
    this.traffic.abandon(isForgotten);
    this.connection.disconnect(isForgotten);
  }

  command(id: string, type: string, data: unknown, now: number): void {
    this.traffic.command(id, type, data, now);
  }

  // ------------------------------------------------------------ from the provider

  tokenGiven(ask: number, token: string | null, now: number): void {
    this.connection.tokenGiven(ask, token, now);
  }

  tokenFailed(ask: number, error: ThrongError): void {
    this.connection.tokenFailed(ask, error);
  }

  // ------------------------------------------------------------ from sockets; links that are no more are ignored

  opened(linkId: number, now: number): void {
    const link = this.connection.find(linkId);
    if (link) this.connection.opened(link, now);
  }

  closed(linkId: number, code: number, reason: string): void {
    const link = this.connection.find(linkId);
    if (link) this.connection.closed(link, code, reason);
  }

  received(linkId: number, text: unknown, now: number): void {
    const link = this.connection.find(linkId);
    if (!link) return;
    this.connection.heard(link);
    const frame = decode(text);
    if (!frame) return this.effects.tell("error", localError("invalid_format"));
    const { type, data } = frame;
    if (type === "ack") {
      return this.#answered(link, data["requestId"], null, isObject(data["result"]) ? data["result"] : {}, now);
    }
    if (type === "error") return this.#answered(link, data["requestId"], serverError(data), {}, now);
    if (type === "connection_established") {
      this.effects.dispatch(type, data);
      return this.connection.established(link, data, now);
    }
    // A migration's new connection has nothing more to say before it takes over.
    if (link !== this.connection.link) return;
    switch (type) {
      case "room_state":
        return this.traffic.recovery.roomState(data, now);
      case "room_closed":
        return this.traffic.recovery.roomClosed(data);
      case "server_closing":
        this.connection.serverClosing(link, data);
        break;
      case "token_expiring":
        this.connection.tokenExpiring();
        break;
      case "migrate":
        this.connection.migrate(data);
        break;
      default:
        return this.traffic.recovery.event(type, data, now);
    }
    this.effects.dispatch(type, data);
  }

  // ------------------------------------------------------------ from timers

  fired(timer: TimerName, now: number): void {
    if (timer === "expiry") this.traffic.expire(now);
    else if (timer === "resend") this.traffic.flush(now);
    else if (timer === "rejoin") this.traffic.recovery.joinDue(now);
    else this.connection.fired(timer, now);
  }

  // ------------------------------------------------------------ inside

  #answered(link: Link, id: unknown, error: ThrongError | null, result: Record<string, unknown>, now: number): void {
    if (!this.connection.answered(link, id, error, result, now)) this.traffic.answered(id, error, result, now);
  }

  #ready(resumed: unknown, now: number): void {
    this.traffic.recovery.resumed(resumed, now);
    this.traffic.flush(now);
  }
}
