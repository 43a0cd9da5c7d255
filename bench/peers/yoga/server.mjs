// sendMessage on GraphQL Yoga and mysql2; README.md says what is in it and what is not.

import { createHash } from "node:crypto";
import cluster from "node:cluster";
import { createServer } from "node:http";
import { availableParallelism } from "node:os";

import { GraphQLError, execute, parse, subscribe, validate } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { createSchema, createYoga } from "graphql-yoga";
import jwt from "jsonwebtoken";
import mysql from "mysql2/promise";
import { WebSocketServer } from "ws";

/** Connections of each process: twice the cores of the database's machine for all of them, and some for waits at the commit. */
const CONNECTIONS = 16;
const TOKENS_MAX = 100_000;
const DOCUMENTS_MAX = 1000;

function serve() {
  const pool = mysql.createPool({ uri: process.env.DATABASE_URL, connectionLimit: CONNECTIONS, maxPreparedStatements: 100 });
  const schema = createSchema({ typeDefs, resolvers: { Mutation: { sendMessage: (_, { input }, { userId }) => send(pool, userId, input) } } });
  const yoga = createYoga({
    schema,
    graphiql: false,
    landingPage: false,
    logging: false,
    maskedErrors: true,
    context: ({ request }) => ({ userId: userOf(request.headers.get("authorization")) }),
  });
  const server = createServer(yoga);
  const sockets = new WebSocketServer({ server, path: yoga.graphqlEndpoint });
  const known = remembering(DOCUMENTS_MAX, (query) => {
    const document = parse(query);
    return { document, errors: validate(schema, document) };
  });
  useServer(
    {
      schema,
      execute,
      subscribe,
      onSubscribe: (context, id, { query, operationName, variables }) => {
        const { document, errors } = known(query);
        if (errors.length > 0) return errors;
        const userId = userOf(context.connectionParams?.authorization);
        return { schema, document, operationName, variableValues: variables, contextValue: { userId } };
      },
    },
    sockets,
  );
  server.keepAliveTimeout = 60_000;
  server.listen(Number(process.env.PORT), "127.0.0.1", () => process.send("ready"));
}

const typeDefs = /* GraphQL */ `
  type Query {
    version: String!
  }
  type Mutation {
    sendMessage(input: SendMessageInput!): SendMessagePayload
  }
  input SendMessageInput {
    conversationId: ID!
    clientMessageId: String!
    content: MessageContentInput!
  }
  input MessageContentInput {
    text: TextContentInput!
  }
  input TextContentInput {
    text: String!
  }
  type SendMessagePayload {
    message: Message
    userErrors: [UserError!]!
  }
  type Message {
    id: ID!
    seq: Int!
    createdAt: String!
  }
  type UserError {
    message: String!
    code: String!
  }
`;

const verified = remembering(TOKENS_MAX, (token) => jwt.verify(token, process.env.TOKEN_SECRET, { algorithms: ["HS256"] }));

function userOf(authorization) {
  const token = /^Bearer (.+)$/.exec(authorization ?? "")?.[1];
  try {
    const claims = verified(token);
    if (claims.exp * 1000 > Date.now()) return claims.sub;
  } catch {
    // Refused below, whatever is wrong with it.
  }
  throw new GraphQLError("sign in", { extensions: { code: "UNAUTHENTICATED" } });
}

const MOVE = `UPDATE bench_conversation c JOIN member m ON m.conversation_id = c.id
  SET c.last_seq = LAST_INSERT_ID(c.last_seq + 1) WHERE c.id = ? AND m.user_id = ? AND m.removed_rev IS NULL`;
const INSERT = `INSERT INTO bench_message (conversation_id, seq, id, sender_id, client_message_id, content_hash, kind, body, created_at,
  countable, rev, created_rev, pos) VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?)`;
const FIRST = "SELECT id, seq, created_at, conversation_id, content_hash FROM bench_message WHERE sender_id = ? AND client_message_id = ?";

async function send(pool, userId, { conversationId, clientMessageId, content }) {
  const text = content.text.text;
  const problem = problemOf(clientMessageId, text);
  if (problem) return failed("BAD_REQUEST", problem);
  const conversation = Buffer.from(conversationId.slice(conversationId.indexOf("_") + 1), "base64url");
  const key = Buffer.from(clientMessageId);
  const hash = createHash("sha256").update(text).digest().subarray(0, 16);
  const connection = await pool.getConnection();
  try {
    await connection.beginTransaction();
    const [moved] = await connection.execute(MOVE, [conversation, userId]);
    if (moved.affectedRows === 0) {
      await connection.rollback();
      return failed("NOT_FOUND", "there is no such conversation");
    }
    const seq = moved.insertId;
    const at = Date.now();
    const id = nextId(at);
    await connection.execute(INSERT, [conversation, seq, id, userId, key, hash, text, at * 1000, seq, seq, seq, id]);
    await connection.commit();
    return sent({ id, seq, created_at: at * 1000 });
  } catch (error) {
    await connection.rollback();
    if (error.code !== "ER_DUP_ENTRY") throw error;
    const [[first]] = await connection.execute(FIRST, [userId, key]);
    const same = first && first.conversation_id.equals(conversation) && first.content_hash.equals(hash);
    return same ? sent(first) : failed("IDEMPOTENCY_CONFLICT", "the key belongs to another message");
  } finally {
    connection.release();
  }
}

function problemOf(key, text) {
  if (!/^[\x21-\x7e]{1,64}$/.test(key)) return "clientMessageId: 1 to 64 visible ASCII characters";
  const bytes = Buffer.byteLength(text);
  return bytes < 1 || bytes > 16_384 ? "text: 1 to 16,384 bytes" : undefined;
}

function sent({ id, seq, created_at: at }) {
  return { message: { id: String(id), seq, createdAt: new Date(at / 1000).toISOString() }, userErrors: [] };
}

function failed(code, message) {
  return { message: null, userErrors: [{ code, message }] };
}

let counter = 0;

/** Milliseconds, the process, and a counter; as a text, as it is longer than a number of JavaScript is exact. */
function nextId(at) {
  counter = (counter + 1) % 4096;
  return String((BigInt(at) << 16n) | (BigInt(cluster.worker.id % 16) << 12n) | BigInt(counter));
}

/** What a function made of the last texts; what throws is not remembered. */
function remembering(max, make) {
  const known = new Map();
  return (text) => {
    let made = known.get(text);
    if (made === undefined) {
      made = make(text);
      if (known.size >= max) known.delete(known.keys().next().value);
      known.set(text, made);
    }
    return made;
  };
}

if (cluster.isPrimary) {
  let ready = 0;
  const count = availableParallelism();
  cluster.on("message", () => {
    ready += 1;
    if (ready === count) console.log(process.env.PORT);
  });
  cluster.on("exit", () => process.exit(1));
  for (let index = 0; index < count; index += 1) cluster.fork();
} else {
  serve();
}
