/** Handlers by event type. Whatever a handler throws stays here: the client goes on. */
import { localError, type ThrongError } from "./errors.js";
import { type Events, isKnown, isOwn } from "./events.js";
import { globals } from "./globals.js";

type Handler = (data: never) => void;

export class Handlers {
  #byType = new Map<string, Set<Handler>>();

  /** The same handler twice is called once. Returns what takes it away. */
  on(type: string, handler: Handler): () => void {
    let handlers = this.#byType.get(type);
    if (!handlers) this.#byType.set(type, (handlers = new Set()));
    handlers.add(handler);
    return () => handlers.delete(handler);
  }

  /** An event of the client itself. */
  tell<T extends keyof Events>(type: T, data: Events[T]): void {
    if (!this.#call(type, data) && type === "error") globals.console.warn("throng:", data);
  }

  /** An event of the server: to its handlers, or to `unknown` if no version that this one knows has such a type. */
  dispatch(type: string, data: Record<string, unknown>): void {
    if (isOwn(type) || (!this.#call(type, data) && !isKnown(type))) this.tell("unknown", { type, data });
  }

  /** False if there is no handler. */
  #call(type: string, data: unknown): boolean {
    const handlers = this.#byType.get(type);
    if (!handlers?.size) return false;
    for (const handler of [...handlers]) {
      try {
        const result: unknown = (handler as (data: unknown) => unknown)(data);
        // An async handler fails later, and must not end the process either.
        if (result instanceof Promise) result.catch((thrown: unknown) => this.#failed(type, thrown));
      } catch (thrown) {
        this.#failed(type, thrown);
      }
    }
    return true;
  }

  #failed(type: string, thrown: unknown): void {
    const error: ThrongError = localError("handler_failed", thrown);
    // A failing error handler is not told of its own failure.
    if (type === "error") globals.console.warn("throng:", error);
    else this.tell("error", error);
  }
}
