/**
 * Durable commands that were not answered yet (R-SDK-4). Sent in order, one at a time per room: a message that is
 * refused for a while must not be overtaken by the next one. Repeated under the first id and with the first bytes, which
 * the server recognises (R-CHAT-3).
 */

/** So old a command fails with `timeout`. The server remembers ids as long as this (`chat.dedupe_s`). */
export const LIFE_MS = 300_000;

/**
 * A command that was on the wire before is not repeated when older than this, only waited for: a repeat that arrived
 * after the server had forgotten the id would be a second message.
 */
export const REPEAT_MS = 270_000;

/** Wait after a refusal that names no time. */
export const RETRY_MS = 2000;

/** A command as storage keeps it. */
export interface Stored {
  id: string;
  type: string;
  /** Its data as JSON: as it was when it was sent first. */
  data: string;
  /** Unix milliseconds. */
  since: number;
  /** Among those of the same millisecond. */
  order: number;
}

export interface Entry extends Stored {
  /** Commands of one lane keep their order: the room's id. */
  lane: string;
  isOnWire: boolean;
  wasOnWire: boolean;
  /** Of an earlier page, whose rooms this one may not have joined yet. */
  isRestored: boolean;
  /** Not before this; 0 = at once. */
  retryAt: number;
}

export class Outbox {
  #entries = new Map<string, Entry>();

  constructor(readonly max: number) {}

  get size(): number {
    return this.#entries.size;
  }

  get isFull(): boolean {
    return this.size >= this.max;
  }

  /** Unix milliseconds of the oldest; null if empty. */
  get oldest(): number | null {
    for (const entry of this.#entries.values()) return entry.since;
    return null;
  }

  has(id: string): boolean {
    return this.#entries.has(id);
  }

  list(): Stored[] {
    return [...this.#entries.values()].map(({ id, type, data, since, order }) => ({ id, type, data, since, order }));
  }

  add(stored: Stored, isRestored = false): void {
    const { roomId } = JSON.parse(stored.data) as { roomId?: unknown };
    const lane = typeof roomId === "string" ? roomId : "";
    this.#entries.set(stored.id, { ...stored, lane, isOnWire: false, wasOnWire: isRestored, isRestored, retryAt: 0 });
  }

  /** What earlier pages left, oldest first; behind it what this one has already. Returns those that are new here. */
  restore(found: Stored[]): Stored[] {
    const own = [...this.#entries.values()];
    const added = found.filter(({ id }) => !this.has(id));
    added.sort((one, other) => one.since - other.since || one.order - other.order);
    this.#entries.clear();
    // Whether it was sent before is not known.
    for (const stored of added) this.add(stored, true);
    for (const entry of own) this.#entries.set(entry.id, entry);
    return added;
  }

  /** Answered or given up. */
  remove(id: string): Entry | undefined {
    const entry = this.#entries.get(id);
    this.#entries.delete(id);
    return entry;
  }

  /** Those whose time is over. */
  expired(now: number): Entry[] {
    return [...this.#entries.values()].filter((entry) => now - entry.since >= LIFE_MS);
  }

  /** Those to be sent now, marked as being on the wire, and when to look again if something waits for its time. */
  due(now: number, isLaneOpen: (lane: string, isRestored: boolean) => boolean): { send: Entry[]; lookAt: number | null } {
    const send: Entry[] = [];
    const lanes = new Set<string>();
    let lookAt: number | null = null;
    for (const entry of this.#entries.values()) {
      if (lanes.has(entry.lane)) continue;
      lanes.add(entry.lane); // first of its lane: the others wait for it
      if (entry.isOnWire || !isLaneOpen(entry.lane, entry.isRestored)) continue;
      if (entry.retryAt > now) {
        lookAt = Math.min(lookAt ?? entry.retryAt, entry.retryAt);
      } else if (!entry.wasOnWire || now - entry.since < REPEAT_MS) {
        entry.isOnWire = entry.wasOnWire = true;
        send.push(entry);
      }
    }
    return { send, lookAt };
  }

  /** Refused, but may succeed later. */
  retryLater(id: string, at: number): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    entry.isOnWire = false;
    entry.retryAt = at;
  }

  /** The connection is lost: whatever was on the wire goes again. */
  linkLost(): void {
    for (const entry of this.#entries.values()) entry.isOnWire = false;
  }
}
