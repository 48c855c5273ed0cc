/**
 * The life of the connection (R-SDK-1 to 3): states, sign-in, resume, heartbeat, and coming back as close codes ask for.
 * There is at most one link, but for a migration's second one, one retry timer and one heartbeat.
 */
import type { Effects, TimerName } from "./effects.js";
import { isObject, type Json } from "./envelope.js";
import { type LocalCode, localError, type ThrongError } from "./errors.js";
import type { ConnectionState, Position } from "./events.js";
import { HEARTBEAT_MS, Link, type Session } from "./link.js";
import { afterClose, backOffMs, DEFAULT_RANGE, inRangeMs, type RetryRange, retryRange } from "./reconnect.js";
import { ASK_AGAIN_MS, Tokens } from "./tokens.js";

/** Connected this long: the back-off begins anew. */
const STEADY_MS = 10_000;
/** The old server of a migration serves so long; then the new connection is given up. */
const MIGRATION_MS = 30_000;
const LOST = 1006;
/** Another connection has resumed this session. */
const RESUMED_ELSEWHERE = 4009;
const NORMAL = 1000;

export interface ConnectionSettings {
  url: string;
  /** Null: unlimited. */
  maxReconnectAttempts: number | null;
  /** Null: as the server says. */
  heartbeatMs: number | null;
  answerMs: number;
  /** A connection that is being made must get on within this. */
  progressMs: number;
}

export interface ConnectionPorts {
  readonly effects: Effects;
  newId(): string;
  /** In [0, 1). */
  random(): number;
  resumable(): Record<string, Position>;
  /** Commands may go. `resumed`: result of the `resume`, or null if the rooms have to be joined. */
  ready(resumed: unknown, now: number): void;
  lost(): void;
}

export class Connection {
  state: ConnectionState = "disconnected";
  userId: string | null = null;
  /** Null while there is none, or while it waits for a token or for its time. */
  link: Link | null = null;
  readonly tokens: Tokens;
  /** The second link of a migration. */
  #next: Link | null = null;
  #session: Session | null = null;
  #attempt = 0;
  #range: RetryRange | null = null;
  #isWaiting = false;
  #linkCount = 0;
  #heartbeatMs = HEARTBEAT_MS;
  /** The `refresh_token` that is under way, and its token. */
  #refreshId: string | null = null;
  #refreshToken = "";
  /** A connection was lost behind its `resume`, which may take effect all the same, also later. */
  #isResumeAdrift = false;

  constructor(
    private readonly settings: ConnectionSettings,
    private readonly ports: ConnectionPorts,
  ) {
    this.tokens = new Tokens(ports.effects);
  }

  // ------------------------------------------------------------ the application's wishes

  connect(userId: string, hasProvider: boolean, now: number): void {
    if (this.userId !== userId) this.#session = null;
    this.userId = userId;
    this.tokens.begin(hasProvider);
    this.#attempt = 0;
    this.#begin("connecting", now);
  }

  disconnect(isForgotten: boolean): void {
    this.#closeAll();
    this.#end("disconnected");
    this.tokens.forget();
    if (isForgotten) this.#session = this.userId = null;
  }

  /** Does not wait any longer: the network is back, or the user is impatient. */
  retryNow(now: number): void {
    if (this.#isWaiting) this.#begin("reconnecting", now);
  }

  // ------------------------------------------------------------ making a connection

  #begin(state: "connecting" | "reconnecting", now: number): void {
    this.#isWaiting = false;
    this.ports.effects.stop("retry");
    this.#setState(state);
    this.ports.effects.start("progress", this.settings.progressMs);
    if (this.tokens.usable(now) === null) this.tokens.ask("connect");
    else this.#open();
  }

  #open(): void {
    this.#range = null;
    this.link = this.#newLink(this.settings.url, null);
  }

  #newLink(url: string, migrationToken: string | null): Link {
    const link = new Link((this.#linkCount += 1), migrationToken, this.ports.effects);
    this.ports.effects.push({ do: "open", link: link.id, url });
    return link;
  }

  /** The provider's answer; null: there is none, and will be none. */
  tokenGiven(ask: number, token: string | null, now: number): void {
    if (!this.tokens.isAnswer(ask)) return;
    if (this.link === null) {
      if (token === null) return this.#stop(4001, "No token", true);
      this.tokens.use(token);
      this.#open();
    } else if (token !== null) {
      // The one in use stays until the server has accepted this.
      if (!this.link.isReady) return this.tokens.use(token);
      this.#refreshId = this.ports.newId();
      this.link.send(this.#refreshId, "refresh_token", { token }, now);
      this.#refreshToken = token;
    }
  }

  tokenFailed(ask: number, error: ThrongError): void {
    if (!this.tokens.isAnswer(ask)) return;
    this.ports.effects.tell("error", error);
    if (this.link) this.ports.effects.start("refresh", ASK_AGAIN_MS);
    else this.#lost(LOST, "");
  }

  find(id: number): Link | null {
    return [this.link, this.#next].find((link) => link?.id === id) ?? null;
  }

  opened(link: Link, now: number): void {
    const token = this.tokens.usable(now);
    if (token === null) return this.#cut(link); // it ended while the socket opened
    link.signIn(this.ports.newId(), token, now);
  }

  established(link: Link, data: Json, now: number): void {
    if (data["userId"] !== this.userId) {
      this.ports.effects.tell("error", localError("wrong_user"));
      if (link === this.#next) return this.#cut(link); // no reason to give up the old server
      return this.#stop(4002, "The token is of another user", true);
    }
    this.tokens.accepted(data["expiresAt"]);
    this.tokens.clock(data["timestamp"], now);
    if (typeof data["heartbeatMs"] === "number" && data["heartbeatMs"] > 0) this.#heartbeatMs = data["heartbeatMs"];
    const { sessionId, resumeToken } = data;
    if (typeof sessionId === "string" && typeof resumeToken === "string") link.session = { sessionId, resumeToken };
    if (this.#session) link.resume(this.ports.newId(), { ...this.#session, rooms: this.ports.resumable() }, now);
    else this.#ready(link, link.session, null, now);
  }

  /** Whether the answer was to something of ours. */
  answered(link: Link, requestId: unknown, error: ThrongError | null, result: Json, now: number): boolean {
    if (requestId === link.resumeId && link.phase === "resuming") {
      if (error) this.#ready(link, link.session, null, now); // the rooms are joined one by one, with their positions
      else this.#ready(link, this.#renewed(result), result, now);
    } else if (requestId !== null && requestId === this.#refreshId) {
      this.#refreshId = null;
      if (error) this.ports.effects.start("refresh", ASK_AGAIN_MS);
      else this.tokenAccepted(this.#refreshToken, result);
    } else {
      return !link.isReady; // to `auth`: connection_established or a close follows
    }
    return true;
  }

  #renewed(result: Json): Session | null {
    const resumeToken = result["resumeToken"];
    return this.#session && typeof resumeToken === "string" ? { ...this.#session, resumeToken } : this.#session;
  }

  tokenAccepted(token: string, result: unknown): void {
    this.tokens.use(token);
    this.tokens.accepted(isObject(result) ? result["expiresAt"] : null);
    this.ports.effects.stop("refresh");
  }

  #ready(link: Link, session: Session | null, resumed: unknown, now: number): void {
    if (link === this.#next) this.#switch(link);
    link.phase = "ready";
    this.#session = session;
    this.ports.effects.stop("progress");
    this.ports.effects.start("steady", STEADY_MS);
    this.ports.effects.start("heartbeat", this.#everyMs);
    this.ports.effects.push({ do: "connected", error: null });
    this.#setState("connected");
    this.ports.ready(resumed, now);
  }

  // ------------------------------------------------------------ a connection's life

  get #everyMs(): number {
    return this.settings.heartbeatMs ?? this.#heartbeatMs;
  }

  heard(link: Link): void {
    link.heard();
    if (!link.isReady && link === this.link) this.ports.effects.start("progress", this.settings.progressMs);
  }

  serverClosing(link: Link, data: Json): void {
    link.isEnding = true;
    this.#range = retryRange(data);
  }

  tokenExpiring(): void {
    if (this.tokens.hasProvider) this.tokens.ask("expiring");
  }

  fired(timer: TimerName, now: number): void {
    const link = this.link;
    if (timer === "retry") this.#begin("reconnecting", now);
    else if (timer === "steady") this.#steady();
    else if (timer === "heartbeat") link?.heartbeat(this.ports.newId(), this.#everyMs, this.settings.answerMs, now);
    else if (timer === "refresh") this.tokenExpiring();
    else if (timer === "migration" && this.#next) this.#cut(this.#next);
    else if (timer === "answer" && link) this.#cut(link);
    else if (timer === "progress") {
      if (link) this.#cut(link);
      else this.#lost(LOST, ""); // the provider does not answer
    }
  }

  #steady(): void {
    this.#attempt = 0;
    this.#isResumeAdrift = false;
  }

  #cut(link: Link): void {
    this.#close(link);
    this.closed(link, LOST, "");
  }

  #close(link: Link, code?: number, reason?: string): void {
    this.ports.effects.push({ do: "close", link: link.id, ...(code === undefined ? {} : { code, reason: reason ?? "" }) });
  }

  // ------------------------------------------------------------ migration (R-CLU-7)

  /** Opens the connection to the new server; the old one serves until that is up. */
  migrate(data: Json): void {
    const { newServerUrl: url, migrationToken } = data;
    if (this.#next || typeof url !== "string" || typeof migrationToken !== "string") return;
    const isSafe = url.startsWith("wss://") || (url.startsWith("ws://") && !this.settings.url.startsWith("wss://"));
    if (!isSafe) return this.ports.effects.tell("error", localError("invalid_format"));
    this.#next = this.#newLink(url, migrationToken);
    this.ports.effects.start("migration", MIGRATION_MS);
  }

  #switch(link: Link): void {
    this.ports.effects.stop("migration");
    this.#next = null;
    if (this.link) {
      this.#close(this.link, NORMAL, "Client migrated");
      this.#linkEnds();
    }
    this.link = link;
  }

  // ------------------------------------------------------------ ends

  closed(link: Link, code: number, reason: string): void {
    if (code === RESUMED_ELSEWHERE && this.#isResumeAdrift) {
      // It was a connection of our own: a migration's, or one before this whose `resume` came late. Once, since else two clients
      // of one session would take it from each other for ever.
      this.#isResumeAdrift = false;
      code = LOST;
    }
    if (link.phase === "resuming") this.#isResumeAdrift = true;
    if (link === this.#next) {
      this.#next = null;
      this.ports.effects.stop("migration");
      // The old connection goes on, unless it has ended meanwhile.
      if (!this.link) this.#lost(code, reason);
    } else if (this.#next) {
      this.#linkEnds();
      this.#setState("reconnecting"); // the new server's connection is already on its way
    } else {
      this.#lost(code, reason);
    }
  }

  /** The link is no more: nothing of it may go on. */
  #linkEnds(): void {
    this.ports.effects.stop("progress", "steady", "heartbeat", "answer", "refresh");
    this.link = null;
    this.#refreshId = null;
    this.tokens.stopAsking();
    this.ports.lost();
  }

  #lost(code: number, reason: string): void {
    this.#linkEnds();
    const after = afterClose(code);
    if (after === "new token") this.tokens.rejected();
    if (after === "stop") return this.#stop(code, reason, false);
    if (after === "new token" && !this.tokens.hasProvider) return this.#stop(code, reason, true);
    const max = this.settings.maxReconnectAttempts;
    if (max !== null && this.#attempt >= max) {
      const attempts = this.#attempt;
      this.#stop(code, reason, false);
      return this.ports.effects.tell("max_reconnect_attempts", { attempts });
    }
    this.#attempt += 1;
    const random = this.ports.random();
    const isRange = after === "range" || this.#range !== null;
    this.#waitFor(isRange ? inRangeMs(this.#range ?? DEFAULT_RANGE, random) : backOffMs(this.#attempt, random));
  }

  #waitFor(retryInMs: number): void {
    this.#isWaiting = true;
    this.ports.effects.start("retry", retryInMs);
    this.#setState("reconnecting", retryInMs);
  }

  /** Not to be tried again without the application. */
  #stop(code: number, reason: string, newTokenNeeded: boolean): void {
    this.#closeAll();
    this.#end("stopped");
    this.ports.effects.tell("stopped", { code, reason, newTokenNeeded });
  }

  #closeAll(): void {
    for (const link of [this.link, this.#next]) if (link) this.#close(link, NORMAL, "Client disconnecting");
  }

  #end(why: LocalCode): void {
    this.ports.effects.stop("retry", "migration");
    this.#next = null;
    this.#isWaiting = false;
    this.#range = null;
    this.#linkEnds();
    this.#attempt = 0;
    this.ports.effects.push({ do: "connected", error: localError(why) });
    this.#setState("disconnected");
  }

  #setState(state: ConnectionState, retryInMs?: number): void {
    if (state === this.state && state !== "reconnecting") return;
    this.state = state;
    this.ports.effects.tell("state", { state, attempt: this.#attempt, ...(retryInMs === undefined ? {} : { retryInMs }) });
  }
}
