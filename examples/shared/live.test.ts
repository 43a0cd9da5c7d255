// What the sockets of all examples do with tokens.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Client } from 'graphql-ws';
import { Gate, openSocket } from './live.ts';
import { Session } from './session.ts';
import { endpoint, unique, until } from './world.ts';

describe('a socket', () => {
  let session: Session;
  let client: Client;
  const closes: number[] = [];
  const messages: unknown[] = [];

  before(async () => {
    const input = { username: unique('ada'), password: unique('password'), displayName: 'Ada' };
    session = await Session.register(endpoint, input);
    client = openSocket(session, new Gate());
    client.on('message', ({ type, ...message }) => {
      if (type === 'next' && 'payload' in message) messages.push(message.payload);
    });
    client.on('closed', (event) => closes.push((event as CloseEvent).code));
    const ignore = () => undefined;
    client.subscribe({ query: 'subscription { events { __typename } }' }, { next: ignore, error: ignore, complete: ignore });
    await until('is live', () => JSON.stringify(messages.at(-1)) === '{"data":{"events":{"__typename":"StreamLive"}}}');
  });
  after(() => client?.dispose());

  it('tells the server its newer token and stays open', async () => {
    await session.renew();
    await until('is renewed', () => JSON.stringify(messages.at(-1)).includes('renewConnection'));
    assert.deepEqual(messages.at(-1), { data: { renewConnection: { userErrors: [] } } });
    assert.deepEqual(closes, []);
  });

  it('closes with 4403 when its session is ended', async () => {
    await session.fetch(endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"query": "mutation { signOut(input: {}) { userErrors { code } } }"}',
    });
    await until('closes', () => closes.length > 0);
    assert.deepEqual(closes, [4403]);
    await assert.rejects(session.renew(), { code: 'INVALID_CREDENTIALS' });
  });
});
