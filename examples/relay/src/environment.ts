// Relay's way to the server: HTTP for queries and mutations, one WebSocket for subscriptions.
import { Environment, Network, Observable, RecordSource, Store, type FetchFunction, type GraphQLResponse } from 'relay-runtime';
import { backOff, Gate, openSocket } from '../../shared/live.ts';
import type { Session } from '../../shared/session.ts';

interface Answer {
  errors?: { message: string; extensions?: { retryable?: boolean } }[];
}

/**
 * Asks until there is an answer that is worth showing. It may do so for mutations too: every one of this app is safe to send
 * again. Meanwhile Relay shows what is optimistic.
 */
function fetchWith(session: Session, gate: Gate): FetchFunction {
  const once = async (query: string | null | undefined, variables: object) => {
    const response = await session.fetch(session.endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables }),
    });
    const answer = (await response.json()) as Answer;
    if (answer.errors?.length && answer.errors.every(({ extensions }) => extensions?.retryable)) {
      throw new TypeError(answer.errors[0]?.message);
    }
    return answer as GraphQLResponse;
  };
  const answered = async (text: string | null | undefined, variables: object) => {
    for (let failures = 0; ; failures++) {
      try {
        return await once(text, variables);
      } catch (error) {
        // `fetch` says so when no answer came, or none in time.
        if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
        await backOff(failures);
      }
    }
  };
  return ({ text, operationKind }, variables) =>
    Observable.create<GraphQLResponse>((sink) => {
      // Relay writes the answer to its store before this returns.
      const write = async () => sink.next(await answered(text, variables));
      const written = operationKind === 'query' ? gate.during(write) : write();
      written.then(
        () => sink.complete(),
        (error: Error) => sink.error(error),
      );
    });
}

export function createEnvironment(session: Session) {
  const gate = new Gate();
  const socket = openSocket(session, gate);
  const environment = new Environment({
    network: Network.create(fetchWith(session, gate), ({ text, name }, variables) =>
      Observable.create<GraphQLResponse>((sink) => {
        const payload = { query: text ?? '', operationName: name, variables };
        return socket.subscribe(payload, {
          next: (answer) => sink.next(answer as GraphQLResponse),
          error: (error) => sink.error(error instanceof Error ? error : new Error('the subscription ended')),
          complete: () => sink.complete(),
        });
      }),
    ),
    store: new Store(new RecordSource()),
  });
  return { environment, socket };
}
