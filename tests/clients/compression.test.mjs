// Answers in gzip and brotli, read by the decoders of Node (zlib's and Google's), which our server shares no code with.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { url } from './server.mjs';

const query = '{ __schema { types { name description fields { name description } } } }';

async function ask(accepted) {
  const answer = await fetch(new URL('/graphql', url), {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'accept-encoding': accepted },
    body: JSON.stringify({ query }),
  });
  assert.equal(answer.status, 200);
  return { coding: answer.headers.get('content-encoding'), text: await answer.text() };
}

describe('compressed answers', () => {
  it('are read by a client that decodes by itself', async () => {
    const plain = await ask('identity');
    assert.equal(plain.coding, null);
    assert.ok(JSON.parse(plain.text).data.__schema.types.length > 50);
    for (const [accepted, coding] of [
      ['gzip', 'gzip'],
      ['br', 'br'],
      ['gzip, deflate, br', 'br'],
      ['br;q=0.5, gzip;q=0.8', 'gzip'],
    ]) {
      assert.deepEqual(await ask(accepted), { coding, text: plain.text }, accepted);
    }
  });
});
