// What graphql-inspector says of schema.graphql against that of the last release, which is the newest tag v….
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CriticalityLevel, diff, DiffRule } from '@graphql-inspector/core';
import { buildSchema, isEnumType } from 'graphql';

const root = new URL('../../', import.meta.url);
const git = (...args) => execFileSync('git', args, { cwd: fileURLToPath(root), encoding: 'utf8' });
const sdl = readFileSync(new URL('schema.graphql', root), 'utf8');
const [released] = git('tag', '--list', 'v*', '--sort=-version:refname').split('\n');

// What was deprecated may go; when, its reason says.
async function breaking(before, after) {
  const changes = await diff(buildSchema(before), buildSchema(after), [DiffRule.suppressRemovalOfDeprecatedField]);
  const broken = changes.filter(({ criticality }) => criticality.level === CriticalityLevel.Breaking);
  return broken.map(({ message }) => message);
}

describe('the schema', () => {
  const skip = released ? false : 'NOTE: nothing is released, so nothing can break';
  it(`takes nothing from clients of ${released || 'the last release'}`, { skip }, async () => {
    assert.deepEqual(await breaking(git('show', `${released}:schema.graphql`), sdl), []);
  });

  it('would be caught taking something', async () => {
    const without = sdl.replace(/^ {2}unreadCount: Int!$/m, '  unread: Int!');
    assert.notEqual(without, sdl);
    assert.deepEqual(await breaking(sdl, without), ["Field 'unreadCount' was removed from object type 'Conversation'"]);
    const needing = sdl.replace(/^ {2}clientKey: String$/m, '  clientKey: String!');
    assert.notEqual(needing, sdl);
    assert.equal((await breaking(sdl, needing)).length, 1);
    assert.deepEqual(await breaking(sdl, sdl), []);
  });

  it('says of everything deprecated until when it stays', () => {
    const undated = Object.values(buildSchema(sdl).getTypeMap()).flatMap((type) => {
      const members = [...Object.values(type.getFields?.() ?? {}), ...(isEnumType(type) ? type.getValues() : [])];
      const all = members.flatMap((member) => [member, ...(member.args ?? [])]);
      const deprecated = all.filter(({ deprecationReason }) => deprecationReason != null);
      return deprecated.filter(({ deprecationReason }) => !/\b\d{4}-\d\d-\d\d\b/.test(deprecationReason));
    });
    assert.deepEqual(undated.map(({ name }) => name), []);
  });
});
