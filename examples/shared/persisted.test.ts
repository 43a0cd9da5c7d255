// Documents by their hash, as the clients of Apollo and urql have it by themselves.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { before, describe, it } from 'node:test';
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache } from '@apollo/client';
import { PersistedQueryLink } from '@apollo/client/link/persisted-queries';
import { Client, fetchExchange } from '@urql/core';
import { persistedExchange } from '@urql/exchange-persisted';
import { parse } from 'graphql';
import { Session } from './session.ts';
import { endpoint, unique } from './world.ts';

// A document that no other run has sent.
const fresh = () => parse(`query ${unique('Q').replaceAll('-', '_')} { viewer { id } }`);

describe('persisted documents', () => {
  let session: Session;
  let sent: { method: string; text: boolean; status: number }[];

  before(async () => {
    const input = { username: unique('ada'), password: unique('password'), displayName: 'Ada' };
    session = await Session.register(endpoint, input);
  });

  const watched: typeof fetch = async (input, init) => {
    const response = await session.fetch(input, init);
    const method = init?.method ?? 'GET';
    const asked = method === 'GET' ? new URL(String(input)).search : String(init?.body);
    sent.push({ method, text: asked.includes('viewer'), status: response.status });
    return response;
  };

  async function isRegisteredOnce(ask: () => Promise<string | undefined>): Promise<void> {
    sent = [];
    assert.equal(await ask(), session.user.id);
    assert.deepEqual(sent.map(({ text }) => text), [false, true], 'the hash, then the text beside it');
    sent = [];
    assert.equal(await ask(), session.user.id);
    assert.deepEqual(sent.map(({ text }) => text), [false], 'the hash alone');
  }

  it('are registered by Apollo Client, and asked for with GET', () => {
    const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
    const hashed = new PersistedQueryLink({ sha256, useGETForHashedQueries: true });
    const http = new HttpLink({ uri: endpoint.href, fetch: watched });
    const client = new ApolloClient({ link: ApolloLink.from([hashed, http]), cache: new InMemoryCache() });
    const query = fresh();
    return isRegisteredOnce(async () => {
      const { data } = await client.query<{ viewer: { id: string } }>({ query, fetchPolicy: 'network-only' });
      return data?.viewer.id;
    }).then(() => assert.deepEqual(sent, [{ method: 'GET', text: false, status: 200 }]));
  });

  it('are registered by urql', () => {
    const client = new Client({
      url: endpoint.href,
      fetch: watched,
      preferGetMethod: false,
      exchanges: [persistedExchange({ preferGetForPersistedQueries: false }), fetchExchange],
    });
    const query = fresh();
    return isRegisteredOnce(async () => {
      const { data, error } = await client.query<{ viewer: { id: string } }>(query, {}, { requestPolicy: 'network-only' });
      assert.equal(error, undefined);
      return data?.viewer.id;
    });
  });
});
