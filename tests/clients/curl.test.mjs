// A chat by curl alone, for those who look at a service that way first.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { unique, url } from './server.mjs';

const run = promisify(execFile);

async function curl(query, variables = {}, token = undefined) {
  const { stdout } = await run('curl', [
    '--silent', '--show-error', '--fail-with-body', '--max-time', '20', '--noproxy', '*',
    '--header', 'content-type: application/json',
    ...(token ? ['--header', `authorization: Bearer ${token}`] : []),
    '--data-binary', JSON.stringify({ query, variables }),
    new URL('/graphql', url).href,
  ]);
  const { data, errors } = JSON.parse(stdout);
  assert.equal(errors, undefined, stdout);
  return data;
}

describe('curl', () => {
  it('registers, opens a group, sends and reads the history', async () => {
    const { register } = await curl(
      `mutation($username: String!) {
        register(input: { username: $username, password: "correct horse", displayName: "Ada" }) {
          credentials { accessToken } userErrors { message }
        }
      }`,
      { username: unique('ada') },
    );
    assert.deepEqual(register.userErrors, []);
    const token = register.credentials.accessToken;
    const { createGroup } = await curl(
      'mutation { createGroup(input: { title: "Tea", memberIds: [] }) { conversation { id } userErrors { message } } }',
      {},
      token,
    );
    const { id } = createGroup.conversation;
    const texts = ['Hello', "it's 5 o'clock: \"tea\" \\ 茶"];
    const sent = [];
    for (const text of texts) {
      const { sendMessage } = await curl(
        `mutation($input: SendMessageInput!) { sendMessage(input: $input) { message { id seq } userErrors { message } } }`,
        { input: { conversationId: id, clientMessageId: unique('m'), content: { text: { text } } } },
        token,
      );
      assert.deepEqual(sendMessage.userErrors, []);
      sent.push(sendMessage.message);
    }
    assert.deepEqual(sent.map(({ seq }) => seq), [1, 2]);
    const { conversation } = await curl(
      'query($id: ID!) { conversation(id: $id) { messages(last: 10) { nodes { id seq content { ... on TextContent { text } } } } } }',
      { id },
      token,
    );
    const expected = sent.map(({ id, seq }, index) => ({ id, seq, content: { text: texts[index] } }));
    assert.deepEqual(conversation.messages.nodes, expected);
  });
});
