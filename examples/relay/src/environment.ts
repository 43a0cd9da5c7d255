// Relay's way to the server: HTTP for queries and mutations, one WebSocket for subscriptions.
import { Environment, Network, Observable, RecordSource, Store, type FetchFunction, type GraphQLResponse } from 'relay-runtime';
import { backOff, openSocket } from '../../shared/live.ts';
import type { Session } from '../../shared/session.ts';

interface Answer {
  errors?: { message: string; extensions?: { retryable?: boolean } }[];
}

/**
 * Asks until there is an answer that is worth showing. It may do so for mutations too: every one of this app is safe to send
 * again. Meanwhile Relay shows what is optimistic.
 */
function fetchWith(session: Session): FetchFunction {
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
  return async ({ text }, variables) => {
    for (let failures = 0; ; failures++) {
      try {
        return await once(text, variables);
      } catch (error) {
        // `fetch` says so when no answer came.
        if (!(error instanceof TypeError)) throw error;
        await backOff(failures);
      }
    }
  };
}

export function createEnvironment(session: Session) {
  const socket = openSocket(session);
  const environment = new Environment({
    network: Network.create(fetchWith(session), ({ text, name }, variables) =>
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
