// Signing in, and tokens that are renewed before anybody notices that they end.
import type { TypedDocumentNode } from '@graphql-typed-document-node/core';
import { print } from 'graphql';
import {
  RefreshSessionDocument,
  RegisterDocument,
  SignInDocument,
  type MistakeFragment,
  type PersonFragment,
  type RegisterInput,
  type SignInInput,
  type TokensFragment,
} from './generated.ts';

// How long before its end an access token, which lives for 15 minutes, is renewed.
const MARGIN_MS = 60_000;
// After this an answer is taken for lost.
const REQUEST_TIMEOUT_MS = 15_000;

/** What the user did wrong, by its code. */
export class Refused extends Error {
  readonly code: string;
  constructor({ code, message }: Pick<MistakeFragment, 'code' | 'message'>) {
    super(message);
    this.code = code;
  }
}

/** One operation by `fetch` alone. */
export async function ask<Data, Variables>(
  endpoint: URL,
  document: TypedDocumentNode<Data, Variables>,
  variables: Variables,
  send: typeof fetch = fetch,
): Promise<Data> {
  const response = await send(endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query: print(document), variables }),
  });
  const answer = (await response.json()) as { data?: Data; errors?: { message: string }[] };
  if (answer.errors || !answer.data) throw new Error(answer.errors?.[0]?.message ?? `HTTP ${response.status}`);
  return answer.data;
}

/** A signed-in device. */
export class Session {
  readonly endpoint: URL;
  readonly user: PersonFragment;
  readonly #clock: () => number;
  readonly #listeners = new Set<(accessToken: string) => void>();
  #tokens: TokensFragment;
  #renewal: Promise<void> | undefined;

  /** Goes on with tokens that were kept. */
  constructor(endpoint: URL, user: PersonFragment, tokens: TokensFragment, clock = Date.now) {
    this.endpoint = endpoint;
    this.user = user;
    this.#tokens = tokens;
    this.#clock = clock;
  }

  static async register(endpoint: URL, input: RegisterInput, clock = Date.now): Promise<Session> {
    const { register } = await ask(endpoint, RegisterDocument, { input });
    return Session.#of(endpoint, register, clock);
  }

  static async signIn(endpoint: URL, input: SignInInput, clock = Date.now): Promise<Session> {
    const { signIn } = await ask(endpoint, SignInDocument, { input });
    return Session.#of(endpoint, signIn, clock);
  }

  static #of(
    endpoint: URL,
    payload: { user: PersonFragment | null; credentials: TokensFragment | null; userErrors: MistakeFragment[] } | null,
    clock: () => number,
  ): Session {
    if (payload?.userErrors[0]) throw new Refused(payload.userErrors[0]);
    if (!payload?.user || !payload.credentials) throw new Error('no answer to the sign-in');
    return new Session(endpoint, payload.user, payload.credentials, clock);
  }

  get msUntilRenewal(): number {
    return Math.max(0, Date.parse(this.#tokens.accessTokenExpiresAt) - MARGIN_MS - this.#clock());
  }

  /** As they are, the access token maybe ended. */
  get tokens(): TokensFragment {
    return this.#tokens;
  }

  /** A token that is good for a while. */
  async accessToken(): Promise<string> {
    if (this.msUntilRenewal === 0) await this.renew();
    return this.#tokens.accessToken;
  }

  /** Exchanges the refresh token, which works once: whoever asks meanwhile waits for the same exchange. */
  renew(): Promise<void> {
    this.#renewal ??= this.#exchange().finally(() => (this.#renewal = undefined));
    return this.#renewal;
  }

  async #exchange(): Promise<void> {
    const { refreshToken } = this.#tokens;
    const { refreshSession } = await ask(this.endpoint, RefreshSessionDocument, { refreshToken });
    if (refreshSession?.userErrors[0]) throw new Refused(refreshSession.userErrors[0]);
    if (!refreshSession?.credentials) throw new Error('no answer to the renewal');
    this.#tokens = refreshSession.credentials;
    for (const listener of this.#listeners) listener(this.#tokens.accessToken);
  }

  onRenewed(listener: (accessToken: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** `fetch` as this session; a token that the server no longer takes is renewed, once, and the request sent again. */
  readonly fetch: typeof fetch = async (input, init) => {
    const attempt = async () => {
      const headers = new Headers(init?.headers);
      headers.set('authorization', `Bearer ${await this.accessToken()}`);
      return fetch(input, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS), ...init, headers });
    };
    const response = await attempt();
    if (response.status !== 401) return response;
    await response.body?.cancel();
    await this.renew();
    return attempt();
  };
}
