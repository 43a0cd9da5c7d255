// The server under test and the few things every test does with it. CONFAB_URL names it.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

export const url = new URL(process.env.CONFAB_URL ?? 'http://127.0.0.1:4000');

export const unique = (prefix) => `${prefix}-${randomBytes(6).toString('hex')}`;

// One operation over HTTP; its data, or a failure that shows the answer.
export async function ask(query, variables = {}, token = undefined) {
  const response = await fetch(new URL('/graphql', url), {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
    body: JSON.stringify({ query, variables }),
  });
  const answer = await response.json();
  assert.equal(answer.errors, undefined, JSON.stringify(answer.errors));
  assert.equal(response.status, 200);
  return answer.data;
}

export async function registerUser(name) {
  const { register } = await ask(
    `mutation Register($input: RegisterInput!) {
      register(input: $input) {
        user { id username displayName }
        credentials { accessToken }
        userErrors { code message field }
      }
    }`,
    { input: { username: unique(name), password: unique('password'), displayName: name, deviceName: 'test' } },
  );
  assert.deepEqual(register.userErrors, []);
  return { ...register.user, token: register.credentials.accessToken };
}

// A subscription whose events are read one by one, each within 10 seconds.
export function subscribe(query, variables, token) {
  const socket = new URL('/graphql', url);
  socket.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  const client = createClient({
    url: socket.href,
    webSocketImpl: WebSocket,
    connectionParams: { authorization: `Bearer ${token}` },
    retryAttempts: 0,
  });
  const stream = client.iterate({ query, variables });
  return {
    async next() {
      let timer;
      const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error('no event within 10 s')), 10_000);
      });
      const { value, done } = await Promise.race([stream.next(), late]).finally(() => clearTimeout(timer));
      assert.ok(!done, 'the subscription ended');
      assert.equal(value.errors, undefined, JSON.stringify(value.errors));
      return value.data.events;
    },
    async close() {
      await stream.return();
      await client.dispose();
    },
  };
}
