// The world that the examples are proven in: the server that CONFAB_URL names, people on it, and a line that can be cut.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { ask, Session } from './session.ts';
import { NewGroupDocument, SayDocument, StoredDocument } from './generated.ts';

const PATIENCE_MS = 20_000;
const LOOK_AGAIN_MS = 10;

export const endpoint = new URL('/graphql', process.env['CONFAB_URL'] ?? 'http://127.0.0.1:4000');

export const unique = (prefix: string) => `${prefix}-${randomBytes(6).toString('hex')}`;

export async function until(what: string, holds: () => boolean): Promise<void> {
  for (const deadline = Date.now() + PATIENCE_MS; !holds(); ) {
    assert.ok(Date.now() < deadline, `${what}, not within ${PATIENCE_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
}

/** Somebody else, who writes with plain `fetch`. */
export class Person {
  readonly session: Session;
  private constructor(session: Session) {
    this.session = session;
  }

  static async register(name: string): Promise<Person> {
    const input = { username: unique(name), password: unique('password'), displayName: name };
    return new Person(await Session.register(endpoint, input));
  }

  async createGroup(title: string, memberIds: string[]): Promise<string> {
    const variables = { input: { title, memberIds, clientKey: unique('group') } };
    const { createGroup } = await ask(endpoint, NewGroupDocument, variables, this.session.fetch);
    assert.deepEqual(createGroup?.userErrors, []);
    assert.ok(createGroup.conversation);
    return createGroup.conversation.id;
  }

  async say(conversationId: string, text: string): Promise<void> {
    const input = { conversationId, clientMessageId: unique('said'), content: { text: { text } } };
    const { sendMessage } = await ask(endpoint, SayDocument, { input }, this.session.fetch);
    assert.deepEqual(sendMessage?.userErrors, []);
  }

  /** The texts that the server keeps, at most the newest 100. */
  async stored(conversationId: string): Promise<string[]> {
    const { conversation } = await ask(endpoint, StoredDocument, { id: conversationId }, this.session.fetch);
    return (conversation?.messages?.nodes ?? []).map(({ content }) => content?.text ?? '');
  }
}

/** A way to the server that can be held up, cut and mended, for HTTP and WebSocket alike. */
export class Line {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** The far ends of connections that carry HTTP, and those that carry a WebSocket. */
  readonly #answers = { http: new Set<Socket>(), socket: new Set<Socket>() };
  readonly #held = { http: false, socket: false };
  #cut = false;

  private constructor() {
    this.#server = createServer((near) => {
      if (this.#cut) return void near.destroy();
      const far = connect(Number(endpoint.port), endpoint.hostname);
      for (const [socket, other] of [[near, far], [far, near]] as const) {
        this.#sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          this.#sockets.delete(socket);
          other.destroy();
        });
      }
      near.once('data', (bytes: Buffer) => {
        const kind = /^upgrade: *websocket/im.test(bytes.toString('latin1')) ? 'socket' : 'http';
        this.#answers[kind].add(far);
        far.on('close', () => this.#answers[kind].delete(far));
        far.on('data', (answer: Buffer) => near.write(answer));
        if (this.#held[kind]) far.pause();
      });
      near.on('data', (bytes: Buffer) => far.write(bytes));
    });
  }

  static async open(): Promise<Line> {
    const line = new Line();
    line.#server.listen(0, '127.0.0.1');
    await once(line.#server, 'listening');
    return line;
  }

  get endpoint(): URL {
    const url = new URL(endpoint);
    url.hostname = '127.0.0.1';
    url.port = String((this.#server.address() as AddressInfo).port);
    return url;
  }

  /** From now on what is asked arrives, but no answer does. */
  hold(...kinds: ('http' | 'socket')[]): void {
    for (const kind of kinds) {
      this.#held[kind] = true;
      for (const far of this.#answers[kind]) far.pause();
    }
  }

  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** What was held arrives; what was cut can connect again. */
  mend(): void {
    this.#cut = this.#held.http = this.#held.socket = false;
    for (const far of [...this.#answers.http, ...this.#answers.socket]) far.resume();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
