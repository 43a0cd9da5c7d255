// The reference client of graphql-transport-ws against the server: what it takes for success, for an error, for a reason to come
// again, and for a reason not to. Each rule of the protocol has a test of its own at the server (api/tests/it/socket_*.rs).
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { registerUser, unique, url } from './server.mjs';

const PATIENCE_MS = 10_000;
const socketUrl = new URL('/graphql', url);
socketUrl.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';

function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}, not within ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

describe('the client of graphql-ws', () => {
  let user;
  const clients = [];

  before(async () => {
    user = await registerUser('Ada');
  });
  after(() => Promise.all(clients.map((client) => client.dispose())));

  function connect(options = {}) {
    const client = createClient({
      url: socketUrl.href,
      webSocketImpl: WebSocket,
      connectionParams: { authorization: `Bearer ${user.token}` },
      retryAttempts: 0,
      ...options,
    });
    clients.push(client);
    return client;
  }

  // All that comes until it is complete.
  function run(client, query, variables = {}) {
    const answers = [];
    const done = new Promise((resolve, reject) => {
      const sink = { next: (answer) => answers.push(answer), error: reject, complete: () => resolve(answers) };
      client.subscribe({ query, variables }, sink);
    });
    return within('is complete', done);
  }

  const event = (client, name) => within(name, new Promise((resolve) => client.on(name, resolve)));

  // Opens a subscription and waits until it is live.
  async function live(client) {
    let stop;
    const is = new Promise((resolve, reject) => {
      stop = client.subscribe(
        { query: 'subscription { events { __typename } }' },
        {
          next: ({ data }) => data.events.__typename === 'StreamLive' && resolve(),
          error: reject,
          complete: () => {},
        },
      );
    });
    await within('is live', is);
    return stop;
  }

  it('gets one answer and a complete for queries and mutations', async () => {
    const client = connect();
    assert.deepEqual(await run(client, '{ viewer { id } }'), [{ data: { viewer: { id: user.id } } }]);
    const mutation = 'mutation($input: CreateGroupInput!) { createGroup(input: $input) { conversation { title } } }';
    const [{ data }] = await run(client, mutation, { input: { title: 'Tea', memberIds: [], clientKey: unique('key') } });
    assert.equal(data.createGroup.conversation.title, 'Tea');
  });

  it('gets the errors of fields beside the data, and those of a document instead of it, and goes on', async () => {
    const client = connect();
    const stop = await live(client);
    const [partial] = await run(client, '{ viewer { id } conversations(first: 0) { nodes { id } } }');
    assert.equal(partial.data.viewer.id, user.id);
    assert.equal(partial.errors[0].extensions.code, 'PAGE_SIZE_OUT_OF_RANGE');
    await assert.rejects(run(client, '{ nothing }'), ([error]) => error.extensions.code === 'BAD_REQUEST');
    await assert.rejects(run(client, '{'), ([error]) => error.extensions.code === 'BAD_REQUEST');
    assert.equal((await run(client, '{ __typename }')).length, 1);
    stop();
  });

  it('hears no more of what it has stopped, and closes its socket with 1000 after the last', async () => {
    const client = connect();
    const stop = await live(client);
    const heard = [];
    client.on('message', ({ type }) => heard.push(type));
    const closed = event(client, 'closed');
    stop();
    const { code, wasClean } = await closed;
    assert.deepEqual([code, wasClean, heard], [1000, true, []]);
  });

  it('has its pings answered', async () => {
    const client = connect({ keepAlive: 50 });
    const pong = event(client, 'pong');
    const stop = await live(client);
    await pong;
    stop();
  });

  it('runs a hundred operations at once on one socket, is told that one more is too much, and goes on', async () => {
    let sockets = 0;
    const client = connect({ on: { opened: () => (sockets += 1) } });
    const stops = await Promise.all(Array.from({ length: 100 }, () => live(client)));
    await assert.rejects(run(client, '{ __typename }'), ([error]) => error.extensions.code === 'LIMIT_EXCEEDED');
    stops.pop()();
    // The place is free when the server has heard of it, which is before what comes later on the same socket.
    assert.equal((await run(client, '{ __typename }')).length, 1);
    for (const stop of stops) stop();
    assert.equal(sockets, 1);
  });

  it('comes again after 4403, with a token that is good by then', async () => {
    const tokens = ['spoiled', user.token];
    const closes = [];
    const client = connect({
      retryAttempts: 1,
      retryWait: () => Promise.resolve(),
      connectionParams: () => ({ authorization: `Bearer ${tokens.shift()}` }),
      on: { closed: ({ code }) => closes.push(code) },
    });
    assert.equal((await run(client, '{ viewer { id } }'))[0].data.viewer.id, user.id);
    assert.equal(closes[0], 4403);
  });

  it('does not come again after what is a bug of its own', async () => {
    let connections = 0;
    const client = connect({
      retryAttempts: 5,
      retryWait: () => Promise.resolve(),
      generateID: () => 'the same',
      on: { connecting: () => (connections += 1) },
    });
    const ended = (query) =>
      new Promise((resolve) => {
        client.subscribe({ query }, { next: () => {}, error: resolve, complete: () => resolve('complete') });
      });
    const query = 'subscription { events { __typename } }';
    const [one, other] = await within('both end', Promise.all([ended(query), ended(query)]));
    assert.deepEqual([one.code, other.code, connections], [4409, 4409, 1]);
  });

  it('is signed out without a token, and says so by the field', async () => {
    const client = connect({ connectionParams: undefined });
    const [{ data, errors }] = await run(client, '{ viewer { id } conversations { nodes { id } } }');
    assert.deepEqual(data, { viewer: null, conversations: null });
    assert.equal(errors[0].extensions.code, 'UNAUTHENTICATED');
  });
});
