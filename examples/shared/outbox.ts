// Messages that are shown before they are acked. Each keeps the key it was made with until the server has it, so that a send
// whose answer was lost is sent again and is one message all the same.
import { randomUUID } from 'node:crypto';
import { backOff } from './live.ts';

/** Tries again, with longer and longer pauses, while a failure is worth it. */
export async function persist<T>(attempt: () => Promise<T>, worthRetrying = (_: unknown) => true): Promise<T> {
  for (let failures = 0; ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      if (!worthRetrying(error)) throw error;
      await backOff(failures);
    }
  }
}

export interface Pending {
  readonly conversationId: string;
  readonly clientMessageId: string;
  readonly text: string;
}

export class Outbox {
  readonly #post: (pending: Pending) => Promise<void>;
  readonly #worthRetrying: (error: unknown) => boolean;
  #pending: readonly Pending[] = [];
  #tail: Promise<void> = Promise.resolve();

  /** `post` sends one message; it fails with what `worthRetrying` knows, and has shown the message when it is done. */
  constructor(post: (pending: Pending) => Promise<void>, worthRetrying: (error: unknown) => boolean) {
    this.#post = post;
    this.#worthRetrying = worthRetrying;
  }

  of(conversationId: string): readonly Pending[] {
    return this.#pending.filter((pending) => pending.conversationId === conversationId);
  }

  /** Sends after all that was said before, so that the order is the one on the screen. */
  send(conversationId: string, text: string): Promise<void> {
    const pending = { conversationId, text, clientMessageId: randomUUID() };
    this.#pending = [...this.#pending, pending];
    const sent = this.#tail.then(() => this.#deliver(pending));
    this.#tail = sent.catch(() => undefined);
    return sent;
  }

  async #deliver(pending: Pending): Promise<void> {
    try {
      await persist(() => this.#post(pending), this.#worthRetrying);
    } finally {
      this.#pending = this.#pending.filter((other) => other !== pending);
    }
  }
}
