// Every GraphQL block in docs/, run as it stands there, page by page from top to bottom.
//
// A ```json block right after one has its variables, and a ```json answer block what the answer has in it at least: fields that
// are not named are not compared, and a text that ends with … says how it begins. In variables, `cnv_…`, `usr_…` and the like are
// ids that the page has not made, and `<endCursor>` is the last `endCursor` in the answers above. ```graphql socket goes over a
// WebSocket.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, describe, it } from 'node:test';
import { parse } from 'graphql';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { ask, registerUser, unique, url } from './server.mjs';

const docs = new URL('../../docs/', import.meta.url);
const pages = readdirSync(docs, { recursive: true }).filter((name) => name.endsWith('.md'));
const PATIENCE_MS = 10_000;

function blocksOf(markdown) {
  const found = [];
  for (const [, info, text] of markdown.matchAll(/^```(graphql|graphql socket|json|json answer)\n([^]*?)^```$/gm)) {
    if (info.startsWith('graphql')) found.push({ document: text, socket: info.endsWith('socket') });
    else if (info === 'json') found.at(-1).variables = JSON.parse(text);
    else found.at(-1).expected = JSON.parse(text);
  }
  return found;
}

// Somebody with a group in which somebody else has written.
async function world() {
  const [reader, other] = await Promise.all([registerUser('Reader'), registerUser('Bob')]);
  const { createGroup } = await ask(
    'mutation($id: ID!) { createGroup(input: { title: "Tea", memberIds: [$id] }) { conversation { id } } }',
    { id: other.id },
    reader.token,
  );
  const conversationId = createGroup.conversation.id;
  let message;
  for (const text of ['Hello', 'Is there tea?', 'There is.']) {
    const input = { conversationId, clientMessageId: unique('said'), content: { text: { text } } };
    const said = 'mutation($input: SendMessageInput!) { sendMessage(input: $input) { message { id } } }';
    message = (await ask(said, { input }, other.token)).sendMessage.message.id;
  }
  const { sessions } = await ask('{ sessions { id } }', {}, reader.token);
  return { token: reader.token, ids: { cnv: conversationId, usr: other.id, msg: message, ses: sessions[0].id } };
}

class Page {
  #ids;
  #token;
  #socket;
  #names = new Map();
  // By its name, what was last answered.
  #answered = new Map();

  constructor({ token, ids }) {
    this.#token = token;
    this.#ids = ids;
    this.#answered.set('accessToken', token);
  }

  #filled(value, name) {
    if (Array.isArray(value)) return value.map((item) => this.#filled(item, name));
    if (value && typeof value === 'object') {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, this.#filled(inner, key)]));
    }
    if (typeof value !== 'string') return value;
    // Names must be unlike those of other runs.
    if (name === 'username') {
      if (!this.#names.has(value)) this.#names.set(value, unique(value));
      return this.#names.get(value);
    }
    const [, kind] = /^(\w{3})_…$/.exec(value) ?? [];
    const [, earlier] = /^<(\w+)>$/.exec(value) ?? [];
    const filled = kind ? this.#ids[kind] : earlier ? this.#answered.get(earlier) : value;
    assert.ok(filled, `${value} is known`);
    return filled;
  }

  #remember(value) {
    if (!value || typeof value !== 'object') return;
    for (const [key, inner] of Object.entries(value)) {
      if (typeof inner === 'string') this.#answered.set(key, inner);
      this.#remember(inner);
    }
  }

  async #overHttp(query, variables) {
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${this.#token}` };
    const body = JSON.stringify({ query, variables });
    return (await fetch(new URL('/graphql', url), { method: 'POST', headers, body })).json();
  }

  // All that comes until the answer is complete, or the subscription is live; that stays open.
  #overSocket(query, variables) {
    const address = new URL('/graphql', url);
    address.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    this.#socket ??= createClient({
      url: address.href,
      webSocketImpl: WebSocket,
      connectionParams: { authorization: `Bearer ${this.#token}` },
      retryAttempts: 0,
    });
    return new Promise((resolve, reject) => {
      const answers = [];
      const done = (settle, value) => {
        clearTimeout(timer);
        settle(value);
      };
      const timer = setTimeout(() => reject(new Error(`not complete within ${PATIENCE_MS} ms`)), PATIENCE_MS);
      this.#socket.subscribe(
        { query, variables },
        {
          next(answer) {
            answers.push(answer);
            const name = (answer.data?.events ?? answer.data?.activity)?.__typename;
            if (name === 'StreamLive' || name === 'ActivityOpened') done(resolve, answers);
          },
          error: (errors) => (Array.isArray(errors) ? done(resolve, [...answers, { errors }]) : done(reject, errors)),
          complete: () => done(resolve, answers),
        },
      );
    });
  }

  async run({ document, socket, variables = {}, expected }) {
    const [{ operation }] = parse(document).definitions;
    const filled = this.#filled(variables);
    const overSocket = socket || operation === 'subscription';
    const answers = overSocket
      ? await this.#overSocket(document, filled)
      : [await this.#overHttp(document, filled)];
    this.#remember(answers);
    assert.ok(answers.length > 0);
    const says = (name) => JSON.stringify(expected ?? {}).includes(`"${name}"`);
    for (const answer of answers) {
      if (!says('errors')) assert.equal(answer.errors, undefined, JSON.stringify(answer.errors));
      for (const payload of Object.values(answer.data ?? {})) {
        if (!says('userErrors')) assert.deepEqual(payload?.userErrors ?? [], []);
        // Whoever signs in on a page goes on as who they are.
        this.#token = payload?.credentials?.accessToken ?? this.#token;
      }
    }
    if (expected) includes(operation === 'subscription' ? answers : answers[0], expected, 'answer');
  }

  close() {
    return this.#socket?.dispose();
  }
}

function includes(actual, expected, at) {
  if (expected && typeof expected === 'object') {
    assert.ok(actual && typeof actual === 'object', `${at} is ${JSON.stringify(actual)}`);
    if (Array.isArray(expected)) assert.equal(actual.length, expected.length, `${at} has ${JSON.stringify(actual)}`);
    for (const [key, value] of Object.entries(expected)) includes(actual[key], value, `${at}.${key}`);
  } else if (typeof expected === 'string' && expected.endsWith('…')) {
    assert.equal(typeof actual, 'string', at);
    assert.ok(actual.startsWith(expected.slice(0, -1)), `${at} is ${actual}`);
  } else {
    assert.equal(actual, expected, at);
  }
}

for (const name of pages) {
  const blocks = blocksOf(readFileSync(new URL(name, docs), 'utf8'));
  if (blocks.length === 0) continue;
  describe(`docs/${name}`, () => {
    let page;
    after(() => page?.close());
    for (const [index, block] of blocks.entries()) {
      it(`block ${index + 1}: ${block.document.split('\n', 1)[0]}`, async () => {
        page ??= new Page(await world());
        await page.run(block);
      });
    }
  });
}

it('the pages for integrators have blocks', () => {
  const having = (name) => blocksOf(readFileSync(new URL(name, docs), 'utf8')).length > 0;
  for (const name of ['getting-started.md', 'paging.md', 'live.md', 'sending.md', 'limits.md', 'websocket.md', 'presence.md']) {
    assert.ok(having(name), name);
  }
});
