// A chat on urql: lists in graphcache, what is not acked yet beside it.
import { Client, CombinedError, fetchExchange, subscriptionExchange, type TypedDocumentNode } from '@urql/core';
import { authExchange } from '@urql/exchange-auth';
import { cacheExchange, type Cache, type Entity, type UpdateResolver } from '@urql/exchange-graphcache';
import { relayPagination } from '@urql/exchange-graphcache/extras';
import { onEnd, pipe, subscribe } from 'wonka';
import { follow, Gate, openSocket } from '../../shared/live.ts';
import { Outbox, persist } from '../../shared/outbox.ts';
import { Refused, type Session } from '../../shared/session.ts';
import {
  ConversationsDocument,
  EventsDocument,
  HistoryDocument,
  MessageAtPlaceFragmentDoc,
  ConversationAtPlaceFragmentDoc,
  SendDocument,
  type EventsSubscription,
  type LineFragment,
  type RowFragment,
  type SendMutation,
  type SendMutationVariables,
} from './generated.ts';
import schema from './schema.ts';

type Event = EventsSubscription['events'];

const PAGED = ['conversations', 'messages'];

// Parts of other objects, which have no id.
const embedded = () => null;

// The page that was fetched without a cursor: the newest messages, the latest conversations.
function newestPage(cache: Cache, entity: Entity, field: string) {
  const pages = cache.inspectFields(entity).filter(({ fieldName }) => fieldName === field);
  const { fieldKey } = pages.find(({ arguments: args }) => !args?.['after'] && !args?.['before']) ?? {};
  return { newest: fieldKey && cache.resolve(entity, fieldKey), pages };
}

const edgesOf = (cache: Cache, page: Entity) => (cache.resolve(page, 'edges') ?? []) as string[];

function show(cache: Cache, conversationId: string, message: LineFragment): void {
  const conversation = { __typename: 'Conversation', id: conversationId };
  const { newest, pages } = newestPage(cache, conversation, 'messages');
  if (!newest) return;
  const edge = { __typename: 'MessageEdge' as const, cursor: `live ${message.id}`, node: message };
  const node = cache.keyOfEntity({ __typename: 'Message', id: message.id });
  const known = pages
    .map(({ fieldKey }) => cache.resolve(conversation, fieldKey))
    .flatMap((page) => edgesOf(cache, page as string))
    .some((key) => cache.resolve(key, 'node') === node);
  cache.writeFragment(MessageAtPlaceFragmentDoc, edge);
  if (known) return;
  const keys = [...edgesOf(cache, newest as string), cache.keyOfEntity({ ...edge })] as string[];
  const seq = (key: string) => cache.resolve(cache.resolve(key, 'node') as string, 'seq') as number;
  cache.link(newest as string, 'edges', keys.sort((one, other) => seq(one) - seq(other)));
}

function moveToTop(cache: Cache, conversation: RowFragment): void {
  const { newest, pages } = newestPage(cache, 'Query', 'conversations');
  if (!newest) return;
  const node = cache.keyOfEntity({ __typename: 'Conversation', id: conversation.id });
  for (const { fieldKey } of pages) {
    const page = cache.resolve('Query', fieldKey) as string;
    cache.link(page, 'edges', edgesOf(cache, page).filter((key) => cache.resolve(key, 'node') !== node));
  }
  const edge = { __typename: 'ConversationEdge' as const, cursor: `live ${conversation.id}`, node: conversation };
  cache.writeFragment(ConversationAtPlaceFragmentDoc, edge);
  cache.link(newest as string, 'edges', [cache.keyOfEntity({ ...edge }) as string, ...edgesOf(cache, newest as string)]);
}

const onEvent: UpdateResolver<EventsSubscription, object> = ({ events }, _, cache) => {
  if (events.__typename === 'ConversationAdded') moveToTop(cache, events.conversation);
  if (events.__typename === 'MessageSent') {
    moveToTop(cache, events.message.conversation);
    show(cache, events.message.conversation.id, events.message);
  }
  // What was missed cannot be told, so no page fits the newest one any more.
  if (events.__typename === 'ResyncRequired') {
    for (const { fieldName, arguments: args } of cache.inspectFields('Query')) {
      const conversation = fieldName === 'conversation' && cache.resolve('Query', fieldName, args ?? {});
      for (const entity of ['Query', conversation || []].flat() as string[]) {
        for (const page of cache.inspectFields(entity)) {
          if (PAGED.includes(page.fieldName)) cache.invalidate(entity, page.fieldName, page.arguments);
        }
      }
    }
  }
};

const onSent: UpdateResolver<SendMutation, SendMutationVariables> = ({ sendMessage }, { input }, cache) => {
  if (sendMessage?.message) show(cache, input.conversationId, sendMessage.message);
};

function createClient(session: Session, socket: ReturnType<typeof openSocket>): Client {
  return new Client({
    url: session.endpoint.href,
    preferGetMethod: false,
    exchanges: [
      cacheExchange({
        schema,
        keys: {
          ConversationConnection: embedded,
          MessageConnection: embedded,
          PageInfo: embedded,
          SendMessagePayload: embedded,
          SystemContent: embedded,
          TextContent: embedded,
          UserError: embedded,
          ConversationEdge: ({ cursor }) => String(cursor),
          MessageEdge: ({ cursor }) => String(cursor),
        },
        resolvers: {
          Query: { conversations: relayPagination() },
          Conversation: { messages: relayPagination() },
        },
        updates: { Mutation: { sendMessage: onSent }, Subscription: { events: onEvent } },
      }),
      authExchange(async (utilities) => ({
        addAuthToOperation: (operation) =>
          utilities.appendHeaders(operation, { authorization: `Bearer ${session.tokens.accessToken}` }),
        willAuthError: () => session.msUntilRenewal === 0,
        didAuthError: ({ graphQLErrors }) =>
          graphQLErrors.some(({ extensions }) => extensions['code'] === 'UNAUTHENTICATED'),
        refreshAuth: () => session.renew(),
      })),
      fetchExchange,
      subscriptionExchange({
        forwardSubscription: ({ query = '', variables }) => ({
          subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query, variables: variables ?? {} }, sink) }),
        }),
      }),
    ],
  });
}

// A lost connection, and errors of which the server says that the same call may succeed later.
const worthRetrying = (error: unknown) =>
  error instanceof CombinedError && error.graphQLErrors.every(({ extensions }) => extensions['retryable'] === true);

export class UrqlChat {
  readonly #gate = new Gate();
  readonly #opened = new Set<string>();
  readonly #socket;
  readonly #client;
  readonly #outbox;
  readonly #conversationsAPage: number;
  readonly #messagesAPage: number;
  #stop = () => {};

  constructor(session: Session, conversationsAPage: number, messagesAPage: number) {
    this.#conversationsAPage = conversationsAPage;
    this.#messagesAPage = messagesAPage;
    this.#socket = openSocket(session, this.#gate);
    this.#client = createClient(session, this.#socket);
    this.#outbox = new Outbox(async ({ conversationId, clientMessageId, text }) => {
      const input = { conversationId, clientMessageId, content: { text: { text } } };
      const { data, error } = await this.#client.mutation(SendDocument, { input });
      if (error) throw error;
      if (data?.sendMessage?.userErrors[0]) throw new Refused(data.sendMessage.userErrors[0]);
    }, worthRetrying);
  }

  /** Live first, lists after `StreamOpened`: nothing falls between the two. */
  async start(): Promise<void> {
    await new Promise<void>((opened) => {
      this.#stop = follow<Event>(
        (after, sink) =>
          pipe(
            this.#client.subscription(EventsDocument, { after }),
            onEnd(() => sink.ended()),
            subscribe(({ data, error }) => {
              if (data) sink.event(data.events);
              if (error) sink.ended();
            }),
          ).unsubscribe,
        ({ __typename }) => {
          opened();
          if (__typename === 'ResyncRequired') void persist(() => this.#refetch());
        },
      );
    });
    await this.#fetch(ConversationsDocument, { first: this.#conversationsAPage });
  }

  async close(): Promise<void> {
    this.#stop();
    await this.#socket.dispose();
  }

  conversations(): RowFragment[] {
    return (this.#list()?.edges ?? []).map(({ node }) => node);
  }

  async moreConversations(): Promise<boolean> {
    const pageInfo = this.#list()?.pageInfo;
    if (!pageInfo?.hasNextPage) return false;
    await this.#fetch(ConversationsDocument, { first: this.#conversationsAPage, after: pageInfo.endCursor });
    return true;
  }

  async open(id: string): Promise<void> {
    this.#opened.add(id);
    await this.#fetch(HistoryDocument, { id, last: this.#messagesAPage });
  }

  async older(id: string): Promise<boolean> {
    const pageInfo = this.#history(id)?.pageInfo;
    if (!pageInfo?.hasPreviousPage) return false;
    await this.#fetch(HistoryDocument, { id, last: this.#messagesAPage, before: pageInfo.startCursor });
    return true;
  }

  /** Oldest first, and last what is not acked, unless its event has come before the answer. */
  history(id: string): { text: string; pending: boolean }[] {
    const acked = (this.#history(id)?.edges ?? []).map(({ node }) => node);
    const known = new Set(acked.map(({ clientMessageId }) => clientMessageId));
    const waiting = this.#outbox.of(id).filter(({ clientMessageId }) => !known.has(clientMessageId));
    return [
      ...acked.map(({ content }) => ({ text: content?.text ?? 'something newer', pending: false })),
      ...waiting.map(({ text }) => ({ text, pending: true })),
    ];
  }

  send(conversationId: string, text: string): Promise<void> {
    return this.#outbox.send(conversationId, text);
  }

  async #fetch<Data, Variables extends object>(document: TypedDocumentNode<Data, Variables>, variables: Variables) {
    const { error } = await this.#gate.during(() => this.#client.query(document, variables).toPromise());
    if (error) throw error;
  }

  async #refetch(): Promise<void> {
    await this.#fetch(ConversationsDocument, { first: this.#conversationsAPage });
    for (const id of this.#opened) await this.#fetch(HistoryDocument, { id, last: this.#messagesAPage });
  }

  #list() {
    return this.#client.readQuery(ConversationsDocument, { first: this.#conversationsAPage })?.data?.conversations;
  }

  #history(id: string) {
    return this.#client.readQuery(HistoryDocument, { id, last: this.#messagesAPage })?.data?.conversation?.messages;
  }
}
