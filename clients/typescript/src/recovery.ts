/**
 * Rooms over lost connections: resume, or join again, and everything that a room tells in between. After each interruption
 * every room is reported once, as recovered (the missed events follow) or not (a snapshot follows).
 */
import type { Effects } from "./effects.js";
import { isObject, type Json } from "./envelope.js";
import { ThrongError } from "./errors.js";
import type { Position } from "./events.js";
import type { Link } from "./link.js";
import { RETRY_MS } from "./outbox.js";
import { compare, positionOf, type Room, Rooms } from "./rooms.js";

export interface RecoveryPorts {
  readonly effects: Effects;
  newId(): string;
  /** The connection on which commands may go, if any. */
  readyLink(): Link | null;
  /** A message is stored: one of ours whose ack may have been lost. */
  sawMessage(data: Json): void;
  settle(id: string, error: ThrongError | null, result: unknown): void;
}

/**
 * After so many connections in a row that ended before all rooms were back, they are joined one by one: on a slow line the
 * answer to a resume of everything may be more than the server keeps for a reader (close 4101).
 */
const ONE_BY_ONE = 2;
/** And after so many without what was missed. */
const SNAPSHOTS = 4;

export class Recovery {
  readonly rooms = new Rooms();
  /** On this connection rooms were asked for. */
  #hasAsked = false;
  #failures = 0;
  /** `join_room` under way → its room. */
  #joins = new Map<string, string>();

  constructor(private readonly ports: RecoveryPorts) {}

  // ------------------------------------------------------------ joining

  want(roomId: string, data: Json, waiter: string, now: number): void {
    this.rooms.want(roomId, data, waiter);
    this.joinDue(now);
  }

  /** Sends every join that is due; called whenever one may have become so. */
  joinDue(now: number): void {
    const link = this.ports.readyLink();
    if (!link) return;
    let { join, lookAt } = this.rooms.due(now);
    if (this.#failures >= ONE_BY_ONE) join = this.#joins.size > 0 || this.rooms.isAnyJoining() ? [] : join.slice(0, 1);
    for (const room of join) {
      this.#hasAsked = true;
      room.joinId = this.ports.newId();
      if (room.phase === "apart") room.phase = "joining";
      this.#joins.set(room.joinId, room.id);
      const recover = room.position && this.#failures < SNAPSHOTS ? { recover: room.position } : {};
      link.send(room.joinId, "join_room", { ...room.data, roomId: room.id, ...recover }, now);
    }
    if (lookAt !== null) this.ports.effects.start("rejoin", lookAt - now);
  }

  /** Whether the answer was to a join of ours. */
  answered(requestId: string, error: ThrongError | null, result: unknown, now: number): boolean {
    const roomId = this.#joins.get(requestId);
    if (roomId === undefined) return false;
    this.#joins.delete(requestId);
    const room = this.rooms.get(roomId);
    if (room?.joinId !== requestId) return true; // left meanwhile
    if (error) {
      this.#refused(room, error, now);
    } else {
      room.phase = "joined"; // `joinId` stays until the room_state, which follows
      this.#settleWaiters(room, null, result);
    }
    return true;
  }

  #refused(room: Room, error: ThrongError, now: number): void {
    room.joinId = null;
    if (room.phase === "joining") room.phase = "apart";
    if (error.retryable) {
      room.retryAt = now + (error.retryAfterMs ?? RETRY_MS);
      return this.joinDue(now);
    }
    this.rooms.forget(room.id);
    const isNews = room.position !== null || room.waiters.length === 0;
    this.#settleWaiters(room, error, undefined);
    if (isNews) this.ports.effects.tell("room_lost", { roomId: room.id, error });
  }

  #settleWaiters(room: Room, error: ThrongError | null, result: unknown): void {
    for (const id of room.waiters.splice(0)) this.ports.settle(id, error, result);
  }

  /** The application leaves, or gives up all. */
  leave(roomId: string): void {
    const room = this.rooms.forget(roomId);
    if (room) this.#settleWaiters(room, new ThrongError("not_in_room", "You are not in this room"), undefined);
  }

  /** All waiting joins fail; with `isForgotten` the rooms and their positions are gone too. */
  abandon(error: ThrongError, isForgotten: boolean): void {
    for (const room of [...this.rooms.all()]) {
      this.#settleWaiters(room, error, undefined);
      // Who never was in the room does not want it any more: its join has failed.
      if (!room.position) this.rooms.forget(room.id);
    }
    if (isForgotten) this.rooms.clear();
  }

  /** A join waited too long. Who was told so must not find himself in the room later. */
  expire(waiter: string): void {
    for (const room of [...this.rooms.all()]) {
      if (!room.waiters.includes(waiter)) continue;
      room.waiters = room.waiters.filter((id) => id !== waiter);
      if (!room.position && room.waiters.length === 0) this.rooms.forget(room.id);
    }
  }

  linkLost(): void {
    if (this.#hasAsked) this.#failures = this.rooms.areAllHere() ? 0 : this.#failures + 1;
    this.#hasAsked = false;
    this.#joins.clear();
    this.rooms.linkLost();
  }

  // ------------------------------------------------------------ resuming

  /** The `rooms` of a `resume`. */
  resumable(): Record<string, Position> {
    this.#hasAsked = true;
    return this.#failures < ONE_BY_ONE ? this.rooms.resumable() : {};
  }

  /** The result of `resume`: rooms that are back, and those that have to be joined. */
  resumed(result: unknown, now: number): void {
    const list = isObject(result) && Array.isArray(result["rooms"]) ? result["rooms"] : [];
    for (const answer of list) if (isObject(answer)) this.#roomResumed(answer, now);
    this.joinDue(now);
  }

  #roomResumed(answer: Json, now: number): void {
    const position = positionOf(answer);
    const room = this.rooms.get(answer["roomId"]);
    if (!room) {
      // Left while the resume was under way.
      if (position) this.ports.readyLink()?.send(this.ports.newId(), "leave_room", { roomId: answer["roomId"] }, now);
      return;
    }
    if (!position) return; // not subscribed: the join will tell why
    if (answer["recovered"] === true) {
      room.phase = "joined";
      this.#report(room, true);
      this.#replay(room, answer["events"]);
      room.position = position;
    } else {
      this.#report(room, false);
      room.position = null; // a plain join: its snapshot takes the place of what was missed
    }
  }

  #report(room: Room, recovered: boolean): void {
    room.isReported = true;
    this.ports.effects.tell("recovered", { roomId: room.id, recovered });
  }

  #replay(room: Room, events: unknown): void {
    if (!Array.isArray(events)) return;
    for (const event of events) {
      if (!isObject(event) || typeof event["type"] !== "string" || !isObject(event["data"])) continue;
      const position = positionOf(event["data"]);
      // What the server replays has no gap; a double may be what came on the connection before.
      if (!position || (room.position && compare(room.position, position) === "double")) continue;
      room.position = position;
      this.#deliver(event["type"], event["data"]);
    }
  }

  // ------------------------------------------------------------ events

  roomState(data: Json, now: number): void {
    const room = this.rooms.get(data["roomId"]);
    if (!room) return this.ports.effects.dispatch("room_state", data);
    room.joinId = null;
    room.phase = "joined";
    room.isLagging = false;
    const wasRecovered = data["recovered"] === true;
    if (!room.isReported || typeof data["recovered"] === "boolean") this.#report(room, wasRecovered);
    const { events, ...state } = data;
    this.ports.effects.dispatch("room_state", state);
    if (wasRecovered) this.#replay(room, events);
    else if (Array.isArray(data["recentMessages"])) {
      for (const message of data["recentMessages"]) if (isObject(message)) this.ports.sawMessage(message);
    }
    room.position = positionOf(data);
    this.joinDue(now);
  }

  roomClosed(data: Json): void {
    if (typeof data["roomId"] === "string") this.leave(data["roomId"]);
    this.ports.effects.dispatch("room_closed", data);
  }

  /** Any other event. */
  event(type: string, data: Json, now: number): void {
    const room = this.rooms.get(data["roomId"]);
    const position = positionOf(data);
    if (!room || !position) return this.#deliver(type, data);
    // Before a snapshot, everything is in the snapshot.
    if (room.isLagging || !room.position) return;
    switch (compare(room.position, position)) {
      case "next":
        room.position = position;
        return this.#deliver(type, data);
      case "gap":
        room.isLagging = true;
        room.isReported = false;
        return this.joinDue(now);
      case "double":
    }
  }

  #deliver(type: string, data: Json): void {
    if (type === "chat_message") this.ports.sawMessage(data);
    this.ports.effects.dispatch(type, data);
  }
}

