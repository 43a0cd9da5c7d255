// The WebSocket of a session, and a subscription that goes on where it was cut.
import { print } from 'graphql';
import { createClient, type Client } from 'graphql-ws';
import WebSocket from 'ws';
import { RenewConnectionDocument } from './generated.ts';
import type { Session } from './session.ts';

const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 10_000;
const PING_MS = 20_000;

// Browsers and later versions of Node have one of their own, and clients expect it there.
if (!('WebSocket' in globalThis)) Object.assign(globalThis, { WebSocket });

/** Waits before try `failures + 1`: longer each time, and not at the same moment as everybody else. */
export function backOff(failures: number): Promise<void> {
  const bound = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** failures);
  return new Promise((resolve) => setTimeout(resolve, bound * (0.5 + Math.random() / 2)));
}

/**
 * Holds events back while lists are fetched: an answer that was made before an event must not be written over it. A fetch has a
 * deadline, so that they do not wait for ever.
 */
export class Gate {
  #fetching = 0;
  #waiting: (() => void)[] = [];

  /** `fetch` is done when its answer is written to the store. */
  async during<T>(fetch: () => Promise<T>): Promise<T> {
    this.#fetching += 1;
    try {
      return await fetch();
    } finally {
      this.#fetching -= 1;
      if (this.#fetching === 0) for (const run of this.#waiting.splice(0)) run();
    }
  }

  pass(run: () => void): void {
    if (this.#fetching === 0) run();
    else this.#waiting.push(run);
  }
}

/** A socket that outlives its access token: it tells the server each newer one. What comes from it waits at the gate. */
export function openSocket(session: Session, gate: Gate): Client {
  const url = new URL(session.endpoint);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  let timer: NodeJS.Timeout | undefined;
  let connected = false;

  const client = createClient({
    url: url.href,
    connectionParams: async () => ({ authorization: `Bearer ${await session.accessToken()}` }),
    keepAlive: PING_MS,
    // It would subscribe again with the cursor of the first time; `follow` knows a newer one.
    retryAttempts: 0,
    on: {
      connected: () => {
        connected = true;
        schedule();
      },
      closed: () => {
        connected = false;
        clearTimeout(timer);
      },
    },
  });

  // A renewal that fails here is tried again by whoever needs the token next.
  const schedule = () => {
    clearTimeout(timer);
    timer = setTimeout(() => void session.renew().catch(() => undefined), session.msUntilRenewal);
  };
  session.onRenewed((accessToken) => {
    if (!connected) return;
    schedule();
    // A renewal that is refused closes the socket, and `follow` opens the next.
    const ignore = () => undefined;
    const query = print(RenewConnectionDocument);
    client.subscribe({ query, variables: { accessToken } }, { next: ignore, error: ignore, complete: ignore });
  });
  return {
    ...client,
    subscribe: (payload, sink) =>
      client.subscribe(payload, { ...sink, next: (answer) => gate.pass(() => sink.next(answer as never)) }),
  };
}

export interface Sink<Event> {
  event(event: Event): void;
  ended(): void;
}

/**
 * Keeps a subscription open: `open` starts it after a cursor, and when it ends it is started again after the cursor of the
 * last event. Events come at least once; whoever takes them knows those that it has seen.
 */
export function follow<Event extends { cursor: string }>(
  open: (after: string | null, sink: Sink<Event>) => () => void,
  take: (event: Event) => void,
): () => void {
  let after: string | null = null;
  let failures = 0;
  let stopped = false;
  let close = () => {};

  const start = () => {
    let over = false;
    close = open(after, {
      event(event) {
        if (over || stopped) return;
        failures = 0;
        take(event);
        after = event.cursor;
      },
      ended() {
        if (over || stopped) return;
        over = true;
        void backOff(failures++).then(() => stopped || start());
      },
    });
  };
  start();
  return () => {
    stopped = true;
    close();
  };
}
