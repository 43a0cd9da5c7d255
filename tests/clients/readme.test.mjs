// What the README tells a newcomer to do, done: its documents are run as they stand there.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import { ask, subscribe, unique } from './server.mjs';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

// The GraphQL of one chapter, in order.
function documents(chapter) {
  const [, text] = readme.split(`## ${chapter}\n`);
  assert.ok(text, `the README has a chapter "${chapter}"`);
  return [...text.split('\n## ')[0].matchAll(/```graphql\n([^]*?)```/g)].map(([, document]) => document);
}

describe('the first chat of the README', () => {
  let register, open, listen, send, read;

  before(() => {
    const found = documents('A first chat in one minute');
    assert.equal(found.length, 5, 'register, open, listen, send, read');
    assert.equal(readme.split('```graphql\n').length - 1, found.length, 'every block of the README is in this chapter');
    [register, open, listen, send, read] = found;
  });

  // Only what a reader has to fill in is filled in; names are made unlike those of other runs.
  const filled = (document, values) =>
    Object.entries(values).reduce((text, [blank, value]) => {
      assert.ok(text.includes(blank), `${blank} is to be filled in`);
      return text.replaceAll(blank, value);
    }, document);

  it('goes as it says', async () => {
    const names = { '"ada"': `"${unique('ada')}"`, '"bob"': `"${unique('bob')}"` };
    const { ada, bob } = await ask(filled(register, names));
    assert.deepEqual([ada.userErrors, bob.userErrors], [[], []]);
    const tokens = [ada, bob].map(({ credentials }) => credentials.accessToken);

    const { openDirectConversation } = await ask(filled(open, { 'usr_…': bob.user.id }), {}, tokens[0]);
    assert.deepEqual(openDirectConversation.userErrors, []);
    const { id } = openDirectConversation.conversation;

    const live = subscribe(listen, {}, tokens[1]);
    // `StreamOpened` and `StreamLive`, of which the document asks for the cursor alone.
    assert.deepEqual([Object.keys(await live.next()), Object.keys(await live.next())], [['cursor'], ['cursor']]);

    const { sendMessage } = await ask(filled(send, { 'cnv_…': id }), {}, tokens[0]);
    assert.deepEqual(sendMessage.userErrors, []);
    assert.equal(sendMessage.message.seq, 1);
    const { message } = await live.next();
    assert.deepEqual(message, { seq: 1, sender: { displayName: 'Ada' }, content: { text: 'Hello, Bob' } });
    await live.close();

    for (const [token, unreadCount] of [[tokens[0], 0], [tokens[1], 1]]) {
      const { conversations } = await ask(read, {}, token);
      assert.equal(conversations.nodes.length, 1);
      assert.equal(conversations.nodes[0].unreadCount, unreadCount);
      assert.equal(conversations.nodes[0].lastMessage.content.text, 'Hello, Bob');
      const members = conversations.nodes[0].members.nodes.map(({ user }) => user.displayName);
      assert.deepEqual(members.sort(), ['Ada', 'Bob']);
    }
  });
});
