// docs/live.md against a server that runs the documents of a manifest alone, with the npm package graphql-ws: live, and resumed.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { createClient } from 'graphql-ws';
import { parse } from 'graphql';
import WebSocket from 'ws';
import { unique } from './server.mjs';

const page = readFileSync(new URL('../../docs/live.md', import.meta.url), 'utf8');
const blocks = [...page.matchAll(/^```graphql\n([^]*?)^```$/gm)].map(([, text]) => text);
const documents = Object.fromEntries(blocks.map((text) => [parse(text).definitions[0].name.value, text]));
documents.Register = `mutation Register($input: RegisterInput!) {
  register(input: $input) { credentials { accessToken } userErrors { code } } }`;
documents.Create = `mutation Create($input: CreateGroupInput!) {
  createGroup(input: $input) { conversation { id } userErrors { code } } }`;

// What each generator writes.
const manifests = {
  Relay: documents,
  Apollo: {
    format: 'apollo-persisted-query-manifest',
    version: 1,
    operations: Object.entries(documents).map(([name, body]) => ({
      id: name,
      name,
      type: parse(body).definitions[0].operation,
      body,
    })),
  },
};

for (const [kind, manifest] of Object.entries(manifests)) {
  describe(`with a manifest of ${kind}`, () => {
    let folder, server, url, token, socket;

    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'confab-trusted-'));
      const file = join(folder, 'manifest.json');
      writeFileSync(file, JSON.stringify(manifest));
      const others = Object.entries(process.env).filter(([name]) => !name.startsWith('CONFAB_'));
      const env = {
        ...Object.fromEntries(others),
        CONFAB_LISTEN: '127.0.0.1:0',
        CONFAB_ADMIN_LISTEN: 'off',
        CONFAB_DATA_DIR: join(folder, 'data'),
        CONFAB_TRUSTED_DOCUMENTS: file,
      };
      server = spawn(process.env.CONFAB_BIN, { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] });
      for await (const line of createInterface(server.stdout)) {
        url = line.replace('listening on ', '');
        break;
      }
      const input = { username: unique('ada'), password: unique('password'), displayName: 'Ada' };
      token = (await ask('Register', { input })).register.credentials.accessToken;
      socket = createClient({
        url: `${url.replace('http', 'ws')}/graphql`,
        webSocketImpl: WebSocket,
        connectionParams: { authorization: `Bearer ${token}` },
        retryAttempts: 0,
      });
    });

    after(async () => {
      await socket?.dispose();
      if (server) {
        const ended = new Promise((resolve) => server.on('exit', resolve));
        server.kill('SIGTERM');
        assert.equal(await ended, 0);
      }
      rmSync(folder, { recursive: true });
    });

    async function ask(documentId, variables) {
      const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };
      const body = JSON.stringify({ documentId, variables });
      const answer = await (await fetch(`${url}/graphql`, { method: 'POST', headers, body })).json();
      assert.equal(answer.errors, undefined, JSON.stringify(answer.errors));
      return answer.data;
    }

    // Until the stream is live.
    async function events(payload) {
      const seen = [];
      for await (const { data, errors } of socket.iterate(payload)) {
        assert.equal(errors, undefined, JSON.stringify(errors));
        seen.push(data.events);
        if (data.events.__typename === 'StreamLive') break;
      }
      return seen;
    }

    const kinds = (seen) => seen.map((event) => event.__typename);

    it('a subscription known by its id is live, and resumed by another one after its cursor', async () => {
      const live = await events({ query: '', documentId: 'Live', variables: { after: null } });
      assert.deepEqual(kinds(live), ['StreamOpened', 'StreamLive']);
      const { createGroup } = await ask('Create', { input: { title: 'Tea', memberIds: [] } });
      const content = { text: { text: 'Meanwhile' } };
      const input = { conversationId: createGroup.conversation.id, clientMessageId: unique('m'), content };
      assert.deepEqual((await ask('Meanwhile', { input })).sendMessage.userErrors, []);
      const after = live.at(-1).cursor;
      for (const documentId of ['Resume', 'Live']) {
        const resumed = await events({ query: '', documentId, variables: { after } });
        assert.deepEqual(kinds(resumed), ['StreamOpened', 'ConversationAdded', 'MessageSent', 'StreamLive']);
        assert.equal(resumed[2].message.content.text, 'Meanwhile');
      }
    });

    it('a document that is not listed does not run', async () => {
      const refused = events({ query: 'subscription { events { cursor } }' });
      await assert.rejects(refused, ([{ extensions }]) => extensions.code === 'DOCUMENT_NOT_TRUSTED');
    });
  });
}
