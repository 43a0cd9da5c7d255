// The explorer in a real browser that reaches nothing but the server: a newcomer plays the tabs from left to right.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { chromium } from 'playwright-core';
import { url } from './server.mjs';

const PATIENCE_MS = 15_000;
const NAMES = ['Register', 'Conversation', 'Send', 'Read', 'MarkRead', 'Live', 'SignIn'];

describe('the explorer', () => {
  let browser, page;
  const complaints = [];
  const foreign = [];

  function watch(opened) {
    opened.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
    });
    opened.on('pageerror', (error) => complaints.push(error.message));
    opened.on('requestfailed', (request) => {
      // What a test cuts off by closing a page is no failure of the page.
      if (request.failure()?.errorText !== 'net::ERR_ABORTED') complaints.push(`failed: ${request.url()}`);
    });
    opened.on('websocket', (socket) => foreign.push(...elsewhere(socket.url())));
  }

  function elsewhere(address) {
    const { protocol, host } = new URL(address);
    return ['data:', 'blob:'].includes(protocol) || host === url.host ? [] : [address];
  }

  before(async () => {
    browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        `--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE ${url.hostname}`,
      ],
    });
    const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
    context.setDefaultTimeout(PATIENCE_MS);
    await context.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    context.on('request', (request) => foreign.push(...elsewhere(request.url())));
    context.on('page', watch);
    page = await context.newPage();
  });
  after(() => browser?.close());

  const ready = (on) => on.locator('.graphiql-query-editor .view-lines').waitFor();
  const tabs = (on) => on.getByRole('tablist').locator('.graphiql-tab-button');
  const open = (on, tab) => tabs(on).getByText(tab, { exact: true }).click();
  const play = (on) => on.getByRole('button', { name: /^Execute query/ }).click();

  // What the response pane says: editors draw only the lines in sight, so the text comes from the model.
  function shown(on) {
    return on.evaluate(() => {
      const models = globalThis.__MONACO.editor.getModels();
      const text = models.find(({ uri }) => uri.path.endsWith('response.json'))?.getValue();
      return text ? JSON.parse(text) : null;
    });
  }

  async function answer(on, wanted = (value) => value?.data ?? value?.errors) {
    for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; ) {
      const value = await shown(on).catch(() => null);
      if (value && wanted(value)) return value;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.fail(`no such answer within ${PATIENCE_MS} ms, but ${JSON.stringify(await shown(on))}`);
  }

  async function playTab(on, tab) {
    await open(on, tab);
    await play(on);
    const { data, errors } = await answer(on);
    assert.equal(errors, undefined, JSON.stringify(errors));
    const refused = Object.values(data).flatMap((payload) => payload?.userErrors ?? []);
    assert.deepEqual(refused, []);
    return data;
  }

  const somebody = (on) => on.getByRole('combobox', { name: /^Signed in as/ });

  let conversationId;

  it('comes with a policy that allows its own origin alone', async () => {
    const response = await page.goto(url.href);
    assert.match(response.headers()['content-security-policy'], /default-src 'self'/);
    await ready(page);
    const names = await tabs(page).allTextContents();
    assert.deepEqual(names, NAMES);
  });

  it('registers two users with the first press of its button, and signs the first one in', async () => {
    await play(page);
    const { data } = await answer(page);
    assert.ok(data, 'no errors');
    const { ada, bob } = data;
    assert.equal(await somebody(page).inputValue(), ada.user.id);
    assert.deepEqual(await somebody(page).locator('option').allTextContents(), [
      'nobody',
      ada.user.username,
      bob.user.username,
    ]);
  });

  it('fills ids in, opens conversations and sends', async () => {
    const { openDirectConversation, createGroup } = await playTab(page, 'Conversation');
    assert.equal(openDirectConversation.conversation.kind, 'DIRECT');
    conversationId = createGroup.conversation.id;
    const { sendMessage } = await playTab(page, 'Send');
    assert.equal(sendMessage.message.sender.displayName, 'Ada');
    await play(page);
    const again = await answer(page, ({ data }) => data?.sendMessage.message.seq > sendMessage.message.seq);
    assert.equal(again.data.sendMessage.message.content.text, 'Hello! 你好! مرحبا');
  });

  it('reads the list and the history, and marks read, as the other user', async () => {
    await somebody(page).selectOption({ index: 2 });
    const { conversations, conversation } = await playTab(page, 'Read');
    assert.equal(conversations.nodes.length, 2);
    assert.equal(conversations.nodes[0].unreadCount, 2);
    assert.equal(conversation.messages.nodes.length, 2);
    const { markRead } = await playTab(page, 'MarkRead');
    assert.equal(markRead.conversation.unreadCount, 1);
  });

  it('shows live what somebody else sends in a second window', async () => {
    await open(page, 'Live');
    await play(page);
    await answer(page, ({ newestFirst }) => newestFirst?.[0].data.events.__typename === 'StreamLive');

    const opening = page.context().waitForEvent('page');
    await page.getByRole('button', { name: 'Second window' }).click();
    const second = await opening;
    await ready(second);
    assert.deepEqual(await tabs(second).allTextContents(), NAMES);
    await somebody(second).selectOption({ index: 1 });
    const { sendMessage } = await playTab(second, 'Send');

    const { newestFirst } = await answer(page, (value) => value.newestFirst?.[0].data?.events.message);
    const { events } = newestFirst[0].data;
    assert.equal(events.__typename, 'MessageSent');
    assert.equal(events.conversation.id, conversationId);
    assert.equal(events.message.id, sendMessage.message.id);
    await second.close();
  });

  it('keeps its tabs and who is signed in when it is loaded again', async () => {
    const person = await somebody(page).inputValue();
    await page.reload();
    await ready(page);
    assert.deepEqual(await tabs(page).allTextContents(), NAMES);
    assert.equal(await somebody(page).inputValue(), person);
  });

  it('signs out', async () => {
    await page.getByRole('button', { name: 'Sign out' }).click();
    await open(page, 'Read');
    await play(page);
    const { errors } = await answer(page);
    assert.equal(errors[0].extensions.code, 'UNAUTHENTICATED');
  });

  it('lets somebody whose token has ended see the schema and sign in again', async () => {
    const window = await page.context().newPage();
    await window.goto(url.href);
    await window.evaluate(() => {
      const gone = { key: 'usr_gone', name: 'gone', token: 'gone', expiresAt: null };
      sessionStorage.setItem('confab:people', JSON.stringify({ list: [gone], current: gone.key }));
    });
    const schema = window.waitForResponse((response) => response.url() === new URL('/graphql', url).href);
    await window.reload();
    assert.equal((await schema).status(), 200);
    await ready(window);
    await play(window);
    assert.equal((await answer(window)).errors[0].extensions.code, 'UNAUTHENTICATED');
    await window.getByText('Signed out').waitFor();
    assert.ok(complaints.splice(0).every((complaint) => complaint.includes('401')), 'the browser names the 401');
    await play(window);
    const { data } = await answer(window, (value) => value.data);
    assert.equal((await playTab(window, 'SignIn')).signIn.user.id, data.ada.user.id);
    await window.close();
  });

  it('asked no other origin for anything and made no complaint', () => {
    assert.deepEqual(foreign, []);
    assert.deepEqual(complaints, []);
  });
});
