// What graphql-cop looks for in a server from outside. The tool is in no package registry (the package of that name is another's), so
// its questions are asked here. Three findings are wanted: introspection is on and names are suggested, as the schema is the product;
// and queries may come with GET from what is no browser.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { url } from './server.mjs';

const endpoint = new URL('/graphql', url);
const JSON_TYPE = { 'content-type': 'application/json' };

async function post(body, headers = JSON_TYPE) {
  const response = await fetch(endpoint, { method: 'POST', headers, body });
  return { status: response.status, ...(await response.json()) };
}
const ask = (query) => post(JSON.stringify({ query }));

async function get(query, headers = {}) {
  const address = new URL(endpoint);
  address.searchParams.set('query', query);
  const response = await fetch(address, { headers });
  return { status: response.status, ...(await response.json()) };
}

function isRefused({ data, errors }, code) {
  assert.equal(data, undefined, 'nothing ran');
  assert.equal(errors[0].extensions.code, code, JSON.stringify(errors));
}

describe('graphql-cop finds no way to', () => {
  it('overload with aliases', async () => {
    const aliases = Array.from({ length: 101 }, (_, index) => `alias${index}: __typename`);
    isRefused(await ask(`{ ${aliases.join(' ')} }`), 'LIMIT_EXCEEDED');
  });

  it('send a batch', async () => {
    const batch = Array.from({ length: 10 }, () => ({ query: '{ __typename }' }));
    isRefused(await post(JSON.stringify(batch)), 'BAD_REQUEST');
  });

  it('overload with directives, known or not', async () => {
    const { errors, ...rest } = await ask(`{ __typename ${'@aa'.repeat(10)} }`);
    isRefused({ errors, ...rest }, 'LIMIT_EXCEEDED');
    assert.equal(errors.length, 1, 'one error, not one for each');
    isRefused(await ask(`{ __typename ${'@include(if: true)'.repeat(10)} }`), 'LIMIT_EXCEEDED');
  });

  it('make more of a field by repeating it', async () => {
    const { data } = await ask(`{ ${'__typename '.repeat(500)} }`);
    assert.deepEqual(data, { __typename: 'Query' });
    isRefused(await ask(`{ ${'__typename '.repeat(2001)} }`), 'LIMIT_EXCEEDED');
  });

  it('go round in circles in the introspection', async () => {
    const circles = (depth) => (depth ? `fields { type { ${circles(depth - 1)} } }` : 'name');
    isRefused(await ask(`{ __schema { types { ${circles(4)} } } }`), 'LIMIT_EXCEEDED');
  });

  it('go round in circles in fragments', async () => {
    const query = '{ __schema { ...A } } fragment A on __Schema { __typename ...B } fragment B on __Schema { ...A }';
    isRefused(await ask(query), 'BAD_REQUEST');
  });

  it('change something with GET', async () => {
    const mutation = 'mutation { signOut(input: {}) { userErrors { code } } }';
    for (const headers of [{}, { 'graphql-require-preflight': '1' }]) {
      const { status, ...answer } = await get(mutation, headers);
      assert.equal(status, 405);
      isRefused(answer, 'BAD_REQUEST');
    }
  });

  it('ask with a GET that a page of another origin can send', async () => {
    const browser = { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64)' };
    for (const headers of [browser, { origin: 'https://elsewhere.example' }, { 'sec-fetch-site': 'cross-site' }]) {
      const { status, ...answer } = await get('{ __typename }', headers);
      assert.equal(status, 403);
      isRefused(answer, 'BAD_REQUEST');
    }
    assert.deepEqual((await get('{ __typename }')).data, { __typename: 'Query' });
  });

  it('ask with a POST that a page of another origin can send', async () => {
    const query = '{ __typename }';
    const form = new FormData();
    form.set('query', query);
    for (const [type, body] of [
      ['application/x-www-form-urlencoded', new URLSearchParams({ query })],
      ['text/plain', JSON.stringify({ query })],
      [undefined, form],
    ]) {
      const { status, ...answer } = await post(body, type ? { 'content-type': type } : {});
      assert.equal(status, 415);
      isRefused(answer, 'BAD_REQUEST');
    }
    const noBody = await fetch(`${endpoint}?query={__typename}`, { method: 'POST' });
    assert.equal(noBody.status, 415);
  });

  it('learn of the inside by a trace, an exception or a stack', async () => {
    for (const query of ['{ __typename }', 'qwerty cop { abc }', '{ conversation(id: "1") { id } }', '{']) {
      const { status, ...answer } = await ask(query);
      assert.ok(status < 500);
      assert.doesNotMatch(JSON.stringify(answer), /tracing|exception|stack|panic|\.rs\b|sql/i);
    }
  });

  it('find another explorer than the one at /', async () => {
    for (const path of ['graphiql', 'playground', 'console', 'graphql/console', 'altair', 'v1/graphql', 'api/graphql']) {
      assert.equal((await fetch(new URL(path, url), { headers: { accept: 'text/html' } })).status, 404, path);
    }
  });

  it('but may see the schema, and is told of a name like the one it guessed', async () => {
    const { data } = await ask('{ __schema { queryType { name } } }');
    assert.equal(data.__schema.queryType.name, 'Query');
    const { errors } = await ask('{ __schema { directive } }');
    assert.match(errors[0].message, /Did you mean "directives"/);
  });
});
