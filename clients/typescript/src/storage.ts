/** The queue over reloads: one item per command, in any storage with the methods of localStorage. */
import { isObject } from "./envelope.js";
import type { Stored } from "./outbox.js";

/** What is used of the DOM's Storage. */
export interface CommandStorage {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** Two tabs may share a storage: both send what is left over, under the same ids, and the server stores it once. */
export class CommandStore {
  constructor(
    private readonly storage: CommandStorage | null,
    private readonly prefix: string,
    private readonly failed: (error: unknown) => void,
  ) {}

  /** Everything that is left of this user, in no particular order. */
  load(userId: string): Stored[] {
    return this.#try(() => {
      const { storage } = this;
      if (!storage) return [];
      const begin = this.#key(userId, "");
      const keys = Array.from({ length: storage.length }, (_, at) => storage.key(at) ?? "");
      return keys.filter((key) => key.startsWith(begin)).flatMap((key) => read(storage.getItem(key)));
    }, []);
  }

  store(userId: string, entry: Stored): void {
    this.#try(() => this.storage?.setItem(this.#key(userId, entry.id), JSON.stringify(entry)), undefined);
  }

  remove(userId: string, id: string): void {
    this.#try(() => this.storage?.removeItem(this.#key(userId, id)), undefined);
  }

  #key(userId: string, id: string): string {
    return `${this.prefix}:${encodeURIComponent(userId)}:${id}`;
  }

  // Storage may be full or forbidden: the commands are still in memory.
  #try<T>(use: () => T, otherwise: T): T {
    try {
      return use();
    } catch (error) {
      this.failed(error);
      return otherwise;
    }
  }
}

/** Anyone may have written there: what is no command is passed over. */
function read(text: string | null): Stored[] {
  try {
    const value: unknown = JSON.parse(text ?? "");
    if (!isObject(value)) return [];
    const { id, type, data, since, order } = value;
    const isCommand =
      typeof id === "string" && typeof type === "string" && typeof data === "string" && typeof since === "number" &&
      typeof order === "number" && isObject(JSON.parse(data));
    return isCommand ? [{ id, type, data, since, order }] : [];
  } catch {
    return [];
  }
}
