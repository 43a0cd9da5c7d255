// What every example claims, and proves against a server.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Session } from './session.ts';
import { Line, Person, unique, until } from './world.ts';

export interface Shown {
  readonly text: string;
  /** Not acked yet. */
  readonly pending: boolean;
}

/** A chat client as somebody who looks at it sees it. */
export interface Chat {
  titles(): string[];
  /** Fetches the next page of conversations; whether there was one. */
  moreConversations(): Promise<boolean>;
  open(conversationId: string): Promise<void>;
  /** The history that is shown, oldest first. */
  history(conversationId: string): Shown[];
  /** Fetches an older page of the history; whether there was one. */
  older(conversationId: string): Promise<boolean>;
  send(conversationId: string, text: string): Promise<void>;
  close(): Promise<void>;
}

/** Pages that the examples ask for. */
export const CONVERSATIONS_A_PAGE = 3;
export const MESSAGES_A_PAGE = 5;

const TOKEN_LIVES_MS = 15 * 60_000;

const numbered = (count: number, name: string) => Array.from({ length: count }, (_, index) => `${name} ${index + 1}`);

export function claims(name: string, start: (session: Session) => Promise<Chat>): void {
  describe(name, () => {
    let line: Line;
    let bob: Person;
    let session: Session;
    let chat: Chat;
    // What Ada's clock is ahead of the server's, until she has a new token.
    let ahead = 0;
    let renewals = 0;
    const clock = () => Date.now() + ahead;
    const account = { username: unique('ada'), password: unique('password') };
    const titles = numbered(7, 'group');
    const groups: string[] = [];

    before(async () => {
      line = await Line.open();
      bob = await Person.register('Bob');
      session = await Session.register(line.endpoint, { ...account, displayName: 'Ada' }, clock);
      for (const title of titles) groups.push(await bob.createGroup(title, [session.user.id]));
    });
    after(async () => {
      await chat?.close();
      line.close();
    });

    const texts = (conversationId: string) => chat.history(conversationId).map(({ text }) => text);
    const isShown = (conversationId: string, expected: string[]) =>
      until(`shows ${expected.join(', ')}`, () => JSON.stringify(texts(conversationId)) === JSON.stringify(expected));

    it('signs in again on another device, and tells a wrong password by its code', async () => {
      await assert.rejects(Session.signIn(line.endpoint, { ...account, password: 'another one' }), {
        code: 'INVALID_CREDENTIALS',
      });
      const again = await Session.signIn(line.endpoint, { ...account, deviceName: 'tablet' }, clock);
      assert.equal(again.user.id, session.user.id);
      session = again;
      session.onRenewed(() => {
        renewals += 1;
        ahead = 0;
      });
    });

    it('pages through all conversations, the latest first', async () => {
      chat = await start(session);
      const latestFirst = titles.toReversed();
      assert.deepEqual(chat.titles(), latestFirst.slice(0, CONVERSATIONS_A_PAGE));
      while (await chat.moreConversations());
      assert.deepEqual(chat.titles(), latestFirst);
    });

    it('pages back through a history, each message once', async () => {
      const [, id = ''] = groups;
      const said = numbered(2 * MESSAGES_A_PAGE + 1, 'said');
      for (const text of said) await bob.say(id, text);
      await chat.open(id);
      assert.deepEqual(texts(id), said.slice(-MESSAGES_A_PAGE));
      await bob.say(id, 'meanwhile');
      while (await chat.older(id));
      await isShown(id, [...said, 'meanwhile']);
    });

    it('loses nothing that is said while a history is fetched', async () => {
      const id = groups[4] ?? '';
      line.hold('http');
      const opening = chat.open(id);
      // Meanwhile the answer is made, and held up on the line.
      while ((await bob.stored(id)).length < 3) await bob.say(id, 'early');
      await bob.say(id, 'late');
      await bob.stored(id);
      line.mend();
      await opening;
      await isShown(id, ['early', 'early', 'early', 'late']);
    });

    it('shows live what somebody else says', async () => {
      const [id = ''] = groups;
      await chat.open(id);
      assert.deepEqual(texts(id), []);
      await bob.say(id, 'hello');
      await isShown(id, ['hello']);
    });

    it('shows a send at once, and one message when the event comes before the answer', async () => {
      const [id = ''] = groups;
      const mine = () => chat.history(id).filter(({ text }) => text === 'mine');
      line.hold('http');
      let acked = false;
      const sent = chat.send(id, 'mine').then(() => (acked = true));
      assert.deepEqual(mine(), [{ text: 'mine', pending: true }]);
      await until('shows the event', () => {
        assert.equal(mine().length, 1, 'shown once at every moment');
        return mine()[0]?.pending === false;
      });
      assert.equal(acked, false);
      line.mend();
      await sent;
      await bob.say(id, 'yours');
      await isShown(id, ['hello', 'mine', 'yours']);
    });

    it('sends again when the answer is lost, and that is one message', async () => {
      const [id = ''] = groups;
      line.hold('http', 'socket');
      const sent = chat.send(id, 'in the tunnel');
      let arrived = false;
      while (!arrived) arrived = (await bob.stored(id)).includes('in the tunnel');
      line.cut();
      assert.deepEqual(chat.history(id).at(-1), { text: 'in the tunnel', pending: true });
      line.mend();
      await sent;
      await isShown(id, ['hello', 'mine', 'yours', 'in the tunnel']);
      assert.deepEqual(await bob.stored(id), ['hello', 'mine', 'yours', 'in the tunnel']);
    });

    it('goes on after a cut where it was, without loss and without doubles', async () => {
      const [id = ''] = groups;
      const before = texts(id);
      const missed = numbered(30, 'missed');
      line.cut();
      for (const text of missed) await bob.say(id, text);
      assert.deepEqual(texts(id), before, 'the line is cut');
      line.mend();
      await bob.say(id, 'back');
      await isShown(id, [...before, ...missed, 'back']);
    });

    it('fetches anew when so much was missed that it cannot be told', async () => {
      const [id = ''] = groups;
      const before = await bob.stored(id);
      const missed = numbered(60, 'much');
      line.cut();
      for (const text of missed) await bob.say(id, text);
      line.mend();
      await until('shows the last', () => texts(id).at(-1) === missed.at(-1));
      while (await chat.older(id));
      await isShown(id, [...before, ...missed]);
    });

    it('learns while it was away of a conversation that is new', async () => {
      line.cut();
      await bob.createGroup('new', [session.user.id]);
      line.mend();
      await until('shows the new conversation first', () => chat.titles()[0] === 'new');
    });

    it('renews a token that ends, once for all who wait', async () => {
      const [id = ''] = groups;
      ahead = TOKEN_LIVES_MS;
      await Promise.all([chat.send(id, 'later'), chat.open(groups[2] ?? ''), chat.open(groups[3] ?? '')]);
      assert.equal(renewals, 1);
      await bob.say(id, 'still here');
      await until('live goes on', () => texts(id).at(-1) === 'still here');
    });
  });
}
