// Live messages on graphql-js, graphql-ws and ws; README.md says what is in it and what is not.

import { createServer } from "node:http";

import { buildSchema, parse, validate } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { WebSocketServer } from "ws";

const schema = buildSchema(/* GraphQL */ `
  scalar DateTime
  scalar EventCursor
  type Query {
    version: String!
  }
  type Subscription {
    events: Event!
  }
  interface Event {
    cursor: EventCursor!
  }
  interface ConversationEvent implements Event {
    cursor: EventCursor!
    rev: Int!
    conversation: Conversation!
  }
  type StreamLive implements Event {
    cursor: EventCursor!
  }
  type MessageSent implements Event & ConversationEvent {
    cursor: EventCursor!
    rev: Int!
    conversation: Conversation!
    message: Message!
  }
  type Conversation {
    id: ID!
    title: String
    lastSeq: Int!
  }
  type Message {
    id: ID!
    seq: Int!
    clientMessageId: String
    createdAt: DateTime!
    sender: User
    content: MessageContent
  }
  type User {
    id: ID!
    username: String!
    displayName: String!
  }
  union MessageContent = TextContent
  type TextContent {
    text: String!
  }
`);

/** In memory: whoever is subscribed is told at once. */
const subscribers = new Set();

function publish(event) {
  for (const tell of subscribers) tell(event);
}

/** What one subscription waits for; `pending` while its client takes what came before. */
function events() {
  const pending = [{ events: { __typename: "StreamLive", cursor: "live" } }];
  let waiting = null;
  const tell = (event) => {
    if (waiting === null) {
      pending.push(event);
    } else {
      const resolve = waiting;
      waiting = null;
      resolve({ value: event, done: false });
    }
  };
  subscribers.add(tell);
  return {
    next: () =>
      pending.length > 0
        ? Promise.resolve({ value: pending.shift(), done: false })
        : new Promise((resolve) => {
            waiting = resolve;
          }),
    return: () => {
      subscribers.delete(tell);
      waiting?.({ value: undefined, done: true });
      return Promise.resolve({ value: undefined, done: true });
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
schema.getSubscriptionType().getFields().events.subscribe = events;
schema.getType("MessageContent").resolveType = () => "TextContent";

/** Parsed and validated documents; the benchmark has a handful. */
const documents = new Map();

function documentOf(query) {
  if (!documents.has(query)) {
    const document = parse(query);
    documents.set(query, { document, errors: validate(schema, document) });
  }
  return documents.get(query);
}

/** Each line of the body of this one request is an event. */
const server = createServer((request) => {
  let rest = "";
  request.setEncoding("utf8");
  request.on("data", (chunk) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop();
    for (const line of lines) publish(JSON.parse(line));
  });
});
server.requestTimeout = 0;

useServer(
  {
    schema,
    onSubscribe: (_context, _id, { query, operationName, variables }) => {
      const { document, errors } = documentOf(query);
      return errors.length > 0 ? errors : { schema, document, operationName, variableValues: variables };
    },
  },
  new WebSocketServer({ server, path: "/graphql" }),
);
server.listen(0, "127.0.0.1", 4096, () => console.log(server.address().port));
