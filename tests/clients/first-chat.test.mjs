// A first chat, as a client with stock libraries sees it.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { ask, registerUser, subscribe, unique } from './server.mjs';

const LIVE = `subscription Live($after: EventCursor, $conversationIds: [ID!]) {
  events(after: $after, conversationIds: $conversationIds) {
    __typename
    cursor
    ... on ConversationEvent { rev conversation { id kind } }
    ... on MessageSent { message { id seq clientMessageId sender { id } content { ... on TextContent { text } } } }
    ...Read
  }
}
fragment Read on ReadMarked { user { id } readSeq }`;

const HISTORY = `query History($id: ID!, $first: Int, $after: String, $last: Int, $before: String) {
  conversation(id: $id) {
    messages(first: $first, after: $after, last: $last, before: $before) {
      nodes { seq content { ... on TextContent { text } } }
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    }
  }
}`;

const texts = ['Hello', '你好', 'مرحبا', 'e\u0301 👩‍👩‍👧', 'the last'];

describe('a first chat', () => {
  let ada, bob, direct, group, live;

  before(async () => {
    [ada, bob] = await Promise.all([registerUser('Ada'), registerUser('Bob')]);
  });
  after(() => live?.close());

  async function send(sender, conversationId, text, clientMessageId = unique('message')) {
    const { sendMessage } = await ask(
      `mutation Send($input: SendMessageInput!) {
        sendMessage(input: $input) { message { id seq } userErrors { code message field } }
      }`,
      { input: { conversationId, clientMessageId, content: { text: { text } } } },
      sender.token,
    );
    assert.deepEqual(sendMessage.userErrors, []);
    return sendMessage.message;
  }

  async function page(variables) {
    const { conversation } = await ask(HISTORY, { id: group, ...variables }, bob.token);
    return conversation.messages;
  }

  it('opens the same direct conversation from both sides', async () => {
    const open = `mutation Open($userId: ID!) {
      openDirectConversation(input: { userId: $userId }) { conversation { id kind title } userErrors { code } }
    }`;
    const { openDirectConversation: opened } = await ask(open, { userId: bob.id }, ada.token);
    const { openDirectConversation: reopened } = await ask(open, { userId: ada.id }, bob.token);
    assert.deepEqual(opened.userErrors, []);
    assert.equal(opened.conversation.kind, 'DIRECT');
    assert.deepEqual(reopened, opened);
    direct = opened.conversation.id;
  });

  it('creates a group once for each client key', async () => {
    const create = `mutation Create($input: CreateGroupInput!) {
      createGroup(input: $input) {
        conversation { id kind title members(first: 10) { nodes { role user { id } } } }
        userErrors { code message field }
      }
    }`;
    const input = { title: 'Tea at four', memberIds: [bob.id], clientKey: unique('group') };
    const { createGroup: created } = await ask(create, { input }, ada.token);
    const { createGroup: repeated } = await ask(create, { input }, ada.token);
    assert.deepEqual(created.userErrors, []);
    assert.deepEqual(repeated, created);
    const roles = Object.fromEntries(created.conversation.members.nodes.map(({ role, user }) => [user.id, role]));
    assert.deepEqual(roles, { [ada.id]: 'OWNER', [bob.id]: 'MEMBER' });
    group = created.conversation.id;
  });

  let cursor;

  it('tells a message live, through fragments on interfaces and on types', async () => {
    live = subscribe(LIVE, {}, bob.token);
    assert.equal((await live.next()).__typename, 'StreamOpened');
    assert.equal((await live.next()).__typename, 'StreamLive');
    const sent = await send(ada, direct, texts[0]);
    const event = await live.next();
    assert.equal(event.__typename, 'MessageSent');
    assert.equal(event.conversation.id, direct);
    assert.ok(event.rev > 0);
    assert.equal(event.message.id, sent.id);
    assert.equal(event.message.seq, sent.seq);
    assert.equal(event.message.sender.id, ada.id);
    assert.equal(event.message.content.text, texts[0]);
    cursor = event.cursor;
  });

  it('answers a repeated send with the same message', async () => {
    const key = unique('message');
    const first = await send(ada, direct, 'once', key);
    assert.deepEqual(await send(ada, direct, 'once', key), first);
    const event = await live.next();
    assert.equal(event.message.clientMessageId, key);
    cursor = event.cursor;
    await live.close();
  });

  it('keeps text byte for byte and numbers it without holes', async () => {
    const seqs = [];
    for (const text of texts) seqs.push((await send(ada, group, text)).seq);
    assert.deepEqual(seqs, texts.map((_, index) => seqs[0] + index));
  });

  it('lists conversations by latest activity, with what is unread', async () => {
    const list = `query List { conversations(first: 10) {
      nodes { id unreadCount lastSeq lastMessage { content { ... on TextContent { text } } } }
    } }`;
    const { conversations } = await ask(list, {}, bob.token);
    assert.deepEqual(conversations.nodes.map(({ id, unreadCount }) => ({ id, unreadCount })), [
      { id: group, unreadCount: texts.length },
      { id: direct, unreadCount: 2 },
    ]);
    assert.equal(conversations.nodes[0].lastMessage.content.text, texts.at(-1));
    const own = await ask(list, {}, ada.token);
    assert.deepEqual(own.conversations.nodes.map(({ unreadCount }) => unreadCount), [0, 0]);
  });

  it('pages the history from either end', async () => {
    const text = ({ nodes }) => nodes.map(({ content }) => content.text).filter((each) => each !== undefined);
    const read = { forwards: [], backwards: [] };
    for (let after = null; ; ) {
      const { nodes, pageInfo } = await page({ first: 2, after });
      read.forwards.push(...text({ nodes }));
      if (!pageInfo.hasNextPage) break;
      after = pageInfo.endCursor;
    }
    for (let before = null; ; ) {
      const { nodes, pageInfo } = await page({ last: 2, before });
      read.backwards.unshift(...text({ nodes }));
      if (!pageInfo.hasPreviousPage) break;
      before = pageInfo.startCursor;
    }
    assert.deepEqual(read, { forwards: texts, backwards: texts });
  });

  it('marks read, forwards alone', async () => {
    const mark = `mutation Mark($input: MarkReadInput!) {
      markRead(input: $input) { conversation { lastSeq unreadCount viewerMember { readSeq } } userErrors { code } }
    }`;
    const seq = (await page({ last: 1 })).nodes[0].seq;
    const { markRead: most } = await ask(mark, { input: { conversationId: group, seq: seq - 1 } }, bob.token);
    assert.deepEqual(most.userErrors, []);
    assert.equal(most.conversation.unreadCount, 1);
    const { markRead: back } = await ask(mark, { input: { conversationId: group, seq: 1 } }, bob.token);
    assert.deepEqual(back, most);
    const { markRead: past } = await ask(mark, { input: { conversationId: group, seq: seq + 1 } }, bob.token);
    assert.deepEqual(past, { conversation: null, userErrors: [{ code: 'INVALID_INPUT' }] });
  });

  it('resumes with what was missed, then goes live', async () => {
    live = subscribe(LIVE, { after: cursor }, bob.token);
    assert.equal((await live.next()).__typename, 'StreamOpened');
    const missed = [];
    for (let event = await live.next(); event.__typename !== 'StreamLive'; event = await live.next()) missed.push(event);
    const messages = missed.filter(({ __typename }) => __typename === 'MessageSent');
    assert.deepEqual(messages.map(({ message }) => message.content.text), texts);
    assert.ok(missed.some((event) => event.__typename === 'ReadMarked' && event.user.id === bob.id));
    await send(ada, direct, 'and on');
    assert.equal((await live.next()).message.content.text, 'and on');
  });

  it('tells only of the conversations asked for', async () => {
    const filtered = subscribe(LIVE, { conversationIds: [direct] }, bob.token);
    assert.equal((await filtered.next()).__typename, 'StreamOpened');
    assert.equal((await filtered.next()).__typename, 'StreamLive');
    await send(ada, group, 'elsewhere');
    await send(ada, direct, 'here');
    assert.equal((await filtered.next()).message.content.text, 'here');
    await filtered.close();
  });
});
