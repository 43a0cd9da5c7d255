// Sends what the editor asks: queries and mutations by HTTP, subscriptions over a WebSocket each.
import { getOperationAST, parse } from 'graphql';
import { createClient } from 'graphql-ws';
import { fillIds, noteIds, randomText } from './ids.js';
import { people } from './people.js';

const EVENTS_SHOWN_MAX = 100;

export function fetcher({ query, variables, operationName }, { headers = {} } = {}) {
  const operation = operationOf(query, operationName);
  const request = { query, variables: prepare(variables), operationName: operation?.name?.value };
  return operation?.operation === 'subscription' ? listen(request, headers) : post(request, headers);
}

// Reads the document itself: for a moment after a tab was opened, the editor still names the operation of the tab
// before. What does not parse is for the server to refuse.
function operationOf(query, name) {
  try {
    const document = parse(query);
    return getOperationAST(document, name) ?? getOperationAST(document);
  } catch {
    return null;
  }
}

function prepare(variables) {
  const filled = fillIds(variables, people.current()?.key);
  return filled?.clientMessageId === '' ? { ...filled, clientMessageId: randomText(20) } : filled;
}

// The headers editor wins over the person chosen.
function authorization(headers) {
  const own = Object.entries(headers).find(([name]) => name.toLowerCase() === 'authorization');
  return own?.[1] ?? personsBearer();
}

function personsBearer() {
  const token = people.current()?.token;
  return token && `Bearer ${token}`;
}

async function post(request, headers) {
  // The schema is for everybody, also for those whose token has ended.
  const bearer = request.operationName === 'IntrospectionQuery' ? undefined : authorization(headers);
  const response = await fetch('/graphql', {
    method: 'POST',
    headers: {
      accept: 'application/graphql-response+json, application/json',
      'content-type': 'application/json',
      ...headers,
      ...(bearer && { authorization: bearer }),
    },
    body: JSON.stringify(request),
  });
  // An ended token is refused with every request, even to register or to sign in.
  if (response.status === 401 && bearer === personsBearer()) people.signOut();
  const body = await response.text();
  try {
    return remember(JSON.parse(body));
  } catch {
    throw new Error(`HTTP ${response.status}: ${body || response.statusText}`);
  }
}

function remember(answer) {
  noteIds(answer.data);
  people.note(answer.data);
  return answer;
}

// The response pane shows one value, so each event is shown on top of those before it.
function listen(request, headers) {
  return {
    subscribe({ next, error, complete }) {
      const bearer = authorization(headers);
      const client = createClient({
        url: `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/graphql`,
        connectionParams: bearer ? { authorization: bearer } : {},
        retryAttempts: 0,
      });
      const shown = [];
      client.subscribe(request, {
        next(event) {
          shown.unshift(remember(event));
          next({ newestFirst: shown.slice(0, EVENTS_SHOWN_MAX) });
          shown.length = Math.min(shown.length, EVENTS_SHOWN_MAX);
        },
        error: (cause) => error(readable(cause)),
        complete,
      });
      return { unsubscribe: () => client.dispose() };
    },
  };
}

function readable(cause) {
  if (cause instanceof CloseEvent) return new Error(`The socket closed with ${cause.code} ${cause.reason}`.trim());
  return cause;
}
