// Types made from the schema say what everything is: nothing is `any`.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { it } from 'node:test';

const examples = new URL('../', import.meta.url);
const artifacts = 'relay/src/__generated__/';
const made = [
  'shared/generated.ts',
  'apollo/src/generated.ts',
  'urql/src/generated.ts',
  ...readdirSync(new URL(artifacts, examples)).map((name) => artifacts + name),
];
// In comments, and where relay-compiler writes down a document's hash.
const NO_TYPE = /\/\*[^]*?\*\/|^\(node as any\)\.hash = .*$/gm;

for (const name of made) {
  it(`${name} has types without any`, () => {
    const text = readFileSync(new URL(name, examples), 'utf8').replaceAll(NO_TYPE, '');
    assert.match(text, /export type/);
    assert.doesNotMatch(text, /\bany\b/);
  });
}
