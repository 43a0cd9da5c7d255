// Documents that schemathesis makes from the schema: whatever they say, they are done or refused, and quickly.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ask, registerUser, unique, url } from './server.mjs';

const EXAMPLES_MIN = 2000;
const folder = new URL('fuzz/', import.meta.url);
const run = promisify(execFile);
const installed = spawnSync('schemathesis', ['--version']).status === 0;
const skip = !installed && process.env.CONFAB_TEST_ALLOW_MISSING === '1' ? 'SKIPPED: schemathesis is MISSING' : false;

describe('documents made from the schema', { skip }, () => {
  let token, ids;
  let examples = 0;

  before(async () => {
    const [somebody, other] = await Promise.all([registerUser('Fuzz'), registerUser('Bob')]);
    token = somebody.token;
    const { createGroup } = await ask(
      'mutation($id: ID!) { createGroup(input: { title: "Tea", memberIds: [$id] }) { conversation { id } } }',
      { id: other.id },
      token,
    );
    const conversationId = createGroup.conversation.id;
    const { sendMessage } = await ask(
      'mutation($input: SendMessageInput!) { sendMessage(input: $input) { message { id } } }',
      { input: { conversationId, clientMessageId: unique('m'), content: { text: { text: 'Hello' } } } },
      token,
    );
    ids = [somebody.id, other.id, conversationId, sendMessage.message.id];
  });

  async function fuzz(...more) {
    const settings = ['--config-file', fileURLToPath(new URL('schemathesis.toml', folder)), 'run'];
    const env = {
      ...process.env,
      SCHEMATHESIS_HOOKS: 'hooks',
      PYTHONPATH: fileURLToPath(folder),
      PYTHONDONTWRITEBYTECODE: '1',
      CONFAB_FUZZ_IDS: ids.join(','),
    };
    const options = ['--checks', 'is_done_or_refused', '--max-response-time', '5', '--no-shrink', '--workers', '2'];
    const { stdout } = await run('schemathesis', [...settings, new URL('/graphql', url).href, ...options, ...more], {
      env,
      maxBuffer: 64 * 1024 * 1024,
    }).catch((failure) => assert.fail(`${failure.stdout}\n${failure.stderr}`));
    const [, generated] = /(\d[\d,]*) generated/.exec(stdout) ?? [];
    assert.ok(generated, stdout);
    examples += Number(generated.replaceAll(',', ''));
  }

  it('are done or refused, signed in', () => {
    // These two end the session with which the others are sent.
    const others = ['--exclude-name', 'Mutation.signOut', '--exclude-name', 'Mutation.changePassword'];
    return fuzz('--header', `Authorization: Bearer ${token}`, ...others);
  });

  it('are done or refused, signed out', () => fuzz('--max-examples', '8'));

  it(`are ${EXAMPLES_MIN} at least`, (test) => {
    test.diagnostic(`${examples} documents`);
    assert.ok(examples >= EXAMPLES_MIN, `${examples}`);
  });
});
