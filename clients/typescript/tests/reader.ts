/** A client of the real server that keeps what an application would show, and checks that it is told the truth. */
import { strict as assert } from "node:assert";
import { type ChatMessage, type Options, ThrongClient, type ThrongError } from "@throng/client";
import { after } from "node:test";
import { WebSocket } from "ws";

export class Reader {
  readonly client: ThrongClient;
  /** Room → its messages, as shown. */
  readonly shown = new Map<string, ChatMessage[]>();
  readonly recovered: boolean[] = [];
  readonly errors: ThrongError[] = [];
  #expectsSnapshot = new Set<string>();

  constructor(
    readonly userId: string,
    url: string,
    options: Partial<Options> = {},
  ) {
    this.client = new ThrongClient({ url, WebSocket, ...options });
    this.client.on("room_state", ({ roomId, recovered, recentMessages }) => {
      if (recovered) return;
      this.#expectsSnapshot.delete(roomId);
      this.shown.set(roomId, recentMessages ?? []);
    });
    this.client.on("chat_message", (message) => this.#show(message));
    this.client.on("recovered", ({ roomId, recovered }) => {
      this.recovered.push(recovered);
      if (!recovered) this.#expectsSnapshot.add(roomId);
    });
    this.client.on("error", (error) => this.errors.push(error));
    after(() => this.client.disconnect());
  }

  #show(message: ChatMessage): void {
    const list = this.shown.get(message.roomId);
    assert.ok(list, `a message before the snapshot of ${message.roomId}`);
    assert.ok(!this.#expectsSnapshot.has(message.roomId), "no message between a failed recovery and its snapshot");
    const last = list.at(-1)?.offset ?? 0;
    assert.ok(message.offset > last, `${this.userId} was given offset ${message.offset} behind ${last}`);
    list.push(message);
  }

  async enter(token: string | (() => string), ...rooms: string[]): Promise<this> {
    await this.client.connect(this.userId, token);
    await Promise.all(rooms.map((roomId) => this.client.sendMessage("join_room", { roomId })));
    return this;
  }

  say(roomId: string, message: string) {
    return this.client.sendMessage("chat_message", { roomId, message });
  }

  texts(roomId: string): string[] {
    return (this.shown.get(roomId) ?? []).map(({ message }) => message);
  }

  /** Everything that the server has of a room. */
  async history(roomId: string): Promise<ChatMessage[]> {
    const all: ChatMessage[] = [];
    for (let after = 0; ; after = all.at(-1)?.offset ?? 0) {
      const page = await this.client.sendMessage("get_history", { roomId, after, limit: 100 });
      all.push(...page.messages);
      if (!page.hasMore) return all;
    }
  }
}
