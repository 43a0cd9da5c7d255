// What the sessions of all examples do when a token is no longer taken.
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { Session } from './session.ts';
import { endpoint, unique } from './world.ts';

const viewer = {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: '{"query": "{ viewer { id } }"}',
};

describe('a session', () => {
  let session: Session;
  const account = { username: unique('ada'), password: unique('password'), displayName: 'Ada' };

  before(async () => {
    session = await Session.register(endpoint, account);
  });

  it('tells a name that is taken by its code', () =>
    assert.rejects(Session.register(endpoint, account), { code: 'USERNAME_TAKEN' }));

  it('renews a token that the server refuses, and sends the request again', async () => {
    const kept = { ...session.tokens, accessToken: 'spoiled' };
    const again = new Session(endpoint, session.user, kept);
    const response = await again.fetch(endpoint, viewer);
    assert.deepEqual(await response.json(), { data: { viewer: { id: session.user.id } } });
    assert.notEqual(again.tokens.refreshToken, kept.refreshToken);
    session = again;
  });

  it('renews once for all who ask at the same time', async () => {
    const { refreshToken } = session.tokens;
    let renewals = 0;
    session.onRenewed(() => (renewals += 1));
    await Promise.all([session.renew(), session.renew(), session.renew()]);
    assert.equal(renewals, 1);
    assert.notEqual(session.tokens.refreshToken, refreshToken);
  });
});
