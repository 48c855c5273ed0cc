/**
 * The rooms that the application wants to be in, and how far it has read each (R-SDK-5). Positions decide what is applied:
 * each durable event once, in order, none left out unnoticed.
 */
import { isObject, type Json } from "./envelope.js";
import type { Position } from "./events.js";

/** The server takes at most so many in one `resume`. */
export const RESUME_ROOMS_MAX = 128;

export interface Room {
  readonly id: string;
  /** `roomType` and `roomToken` of the join, for the next one. */
  data: Json;
  /** The last durable event that was applied; null before the first snapshot. */
  position: Position | null;
  /** `apart`: not subscribed on this connection. `joining`: asked. `joined`: commands may follow. */
  phase: "apart" | "joining" | "joined";
  /** The `join_room` that is under way, if any. */
  joinId: string | null;
  /** Commands of the application that this join answers. */
  waiters: string[];
  /** Not joined again before this; 0 = at once. */
  retryAt: number;
  /** Something was missed: durable events are left out until the `room_state` that was asked for. */
  isLagging: boolean;
  /** The application has been told that this interruption was bridged, or not. */
  isReported: boolean;
}

export function positionOf(data: Json): Position | null {
  const { epoch, offset } = data;
  return typeof epoch === "string" && typeof offset === "number" ? { epoch, offset } : null;
}

/** What an event of a stream means to a reader at `at`. */
export function compare(at: Position, event: Position): "next" | "double" | "gap" {
  if (event.epoch !== at.epoch) return "gap";
  if (event.offset <= at.offset) return "double";
  return event.offset === at.offset + 1 ? "next" : "gap";
}

export class Rooms {
  #rooms = new Map<string, Room>();

  get(roomId: unknown): Room | undefined {
    return typeof roomId === "string" ? this.#rooms.get(roomId) : undefined;
  }

  all(): IterableIterator<Room> {
    return this.#rooms.values();
  }

  /** The application joins, for the first time or again. */
  want(roomId: string, data: Json, waiter: string): Room {
    const { recover, roomId: _, ...rest } = data;
    let room = this.#rooms.get(roomId);
    if (!room) {
      room = {
        id: roomId,
        data: rest,
        position: null,
        phase: "apart",
        joinId: null,
        waiters: [],
        retryAt: 0,
        isLagging: false,
        isReported: true,
      };
      this.#rooms.set(roomId, room);
    }
    room.data = rest;
    if (isObject(recover)) room.position = positionOf(recover);
    room.waiters.push(waiter);
    return room;
  }

  forget(roomId: string): Room | undefined {
    const room = this.#rooms.get(roomId);
    this.#rooms.delete(roomId);
    return room;
  }

  clear(): void {
    this.#rooms.clear();
  }

  /** The connection is lost, and with it all subscriptions. */
  linkLost(): void {
    for (const room of this.#rooms.values()) {
      room.phase = "apart";
      room.joinId = null;
      room.retryAt = 0;
      room.isLagging = false;
      if (room.position) room.isReported = false;
    }
  }

  /** The `rooms` of a `resume`: those with a position. */
  resumable(): Record<string, Position> {
    const read = [...this.#rooms.values()].filter((room) => room.position !== null).slice(0, RESUME_ROOMS_MAX);
    return Object.fromEntries(read.map((room) => [room.id, room.position as Position]));
  }

  /**
   * Whether commands for a room may go. They wait while it is wanted, but not joined yet. Those of an earlier page wait for this one
   * to want it, too: they would come back with `not_in_room`.
   */
  isOpen(roomId: string, isRestored: boolean): boolean {
    const room = this.#rooms.get(roomId);
    return room ? room.phase === "joined" : !isRestored || roomId === "";
  }

  /** Whether a room_state is awaited. */
  isAnyJoining(): boolean {
    return [...this.#rooms.values()].some((room) => room.joinId !== null);
  }

  /** Whether nothing is missing: each room is joined and has its position. */
  areAllHere(): boolean {
    return [...this.#rooms.values()].every((room) => room.phase === "joined" && room.position && !room.isLagging);
  }

  /** Those to be joined now, and when to look again if something waits for its time. */
  due(now: number): { join: Room[]; lookAt: number | null } {
    const join: Room[] = [];
    let lookAt: number | null = null;
    for (const room of this.#rooms.values()) {
      const isWaiting = room.phase === "apart" || room.isLagging || room.waiters.length > 0;
      if (!isWaiting || room.joinId !== null) continue;
      if (room.retryAt > now) lookAt = Math.min(lookAt ?? room.retryAt, room.retryAt);
      else join.push(room);
    }
    return { join, lookAt };
  }
}
