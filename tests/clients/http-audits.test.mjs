// GraphQL over HTTP as the audits of graphql-http have it: all of MUST, SHOULD and MAY.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverAudits } from 'graphql-http';
import { registerUser, url } from './server.mjs';

// Fewer would be a suite that asks less.
const AUDITS = 61;

async function failures(fetchFn) {
  const failed = [];
  const audits = serverAudits({ url: new URL('/graphql', url).href, fetchFn });
  assert.equal(audits.length, AUDITS);
  for (const audit of audits) {
    const { status, reason } = await audit.fn();
    if (status !== 'ok') failed.push(`${status} ${audit.id} ${audit.name}: ${reason}`);
  }
  return failed;
}

test('every audit passes signed out', async () => {
  assert.deepEqual(await failures(fetch), []);
});

test('every audit passes signed in', async () => {
  const { token } = await registerUser('audits');
  const signedIn = (address, options) => {
    const headers = { ...options?.headers, authorization: `Bearer ${token}` };
    return fetch(address, { ...options, headers });
  };
  assert.deepEqual(await failures(signedIn), []);
});
