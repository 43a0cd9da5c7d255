// A chat on Apollo Client: lists in its normalised cache, what is not acked yet beside it.
import { ApolloClient, ApolloLink, CombinedGraphQLErrors, HttpLink, InMemoryCache } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { getMainDefinition, relayStylePagination } from '@apollo/client/utilities';
import { follow, Gate, openSocket } from '../../shared/live.ts';
import { Outbox, persist } from '../../shared/outbox.ts';
import { Refused, type Session } from '../../shared/session.ts';
import {
  ConversationsDocument,
  EventsDocument,
  HistoryDocument,
  SendDocument,
  type EventsSubscription,
  type LineFragment,
  type RowFragment,
} from './generated.ts';

type Event = EventsSubscription['events'];

function createClient(session: Session, socket: ReturnType<typeof openSocket>): ApolloClient {
  const isSubscription: Parameters<typeof ApolloLink.split>[0] = ({ query }) => {
    const definition = getMainDefinition(query);
    return definition.kind === 'OperationDefinition' && definition.operation === 'subscription';
  };
  return new ApolloClient({
    link: ApolloLink.split(
      isSubscription,
      new GraphQLWsLink(socket),
      new HttpLink({ uri: session.endpoint.href, fetch: session.fetch }),
    ),
    cache: new InMemoryCache({
      typePolicies: {
        Query: { fields: { conversations: relayStylePagination() } },
        Conversation: { fields: { messages: relayStylePagination() } },
      },
    }),
  });
}

// A lost connection, and errors of which the server says that the same call may succeed later.
const worthRetrying = (error: unknown) =>
  CombinedGraphQLErrors.is(error)
    ? error.errors.every(({ extensions }) => extensions?.['retryable'] === true)
    : !(error instanceof Refused);

export class ApolloChat {
  readonly #gate = new Gate();
  readonly #socket;
  readonly #client;
  readonly #outbox;
  readonly #conversations;
  readonly #histories = new Map<string, ReturnType<ApolloChat['watchHistory']>>();
  readonly #pageSize: number;
  #stop = () => {};

  constructor(session: Session, conversationsAPage: number, messagesAPage: number) {
    this.#pageSize = messagesAPage;
    this.#socket = openSocket(session, this.#gate);
    this.#client = createClient(session, this.#socket);
    this.#outbox = new Outbox(async ({ conversationId, clientMessageId, text }) => {
      const input = { conversationId, clientMessageId, content: { text: { text } } };
      const { data } = await this.#client.mutate({ mutation: SendDocument, variables: { input } });
      const { message, userErrors } = data?.sendMessage ?? {};
      if (userErrors?.[0]) throw new Refused(userErrors[0]);
      if (message) this.#show(conversationId, message);
    }, worthRetrying);
    this.#conversations = this.#client.watchQuery({
      query: ConversationsDocument,
      variables: { first: conversationsAPage },
    });
  }

  /** Live first, lists after `StreamOpened`: nothing falls between the two. */
  async start(): Promise<void> {
    await new Promise<void>((opened) => {
      this.#stop = follow<Event>(
        (after, sink) => {
          const stream = this.#client.subscribe({ query: EventsDocument, variables: { after }, fetchPolicy: 'no-cache' });
          const subscription = stream.subscribe({
            next: ({ data }) => (data ? sink.event(data.events) : sink.ended()),
            error: () => sink.ended(),
            complete: () => sink.ended(),
          });
          return () => subscription.unsubscribe();
        },
        (event) => {
          opened();
          this.#take(event);
        },
      );
    });
    await this.#gate.during(() => this.#conversations.refetch());
  }

  async close(): Promise<void> {
    this.#stop();
    this.#client.stop();
    await this.#socket.dispose();
  }

  conversations(): RowFragment[] {
    return (this.#list()?.edges ?? []).map(({ node }) => node);
  }

  async moreConversations(): Promise<boolean> {
    const pageInfo = this.#list()?.pageInfo;
    if (!pageInfo?.hasNextPage) return false;
    const variables = { after: pageInfo.endCursor };
    await this.#gate.during(() => this.#conversations.fetchMore({ variables }));
    return true;
  }

  async open(conversationId: string): Promise<void> {
    if (this.#histories.has(conversationId)) return;
    const watched = this.watchHistory(conversationId);
    await this.#gate.during(() => watched.refetch());
    this.#histories.set(conversationId, watched);
  }

  async older(conversationId: string): Promise<boolean> {
    const pageInfo = this.#history(conversationId)?.pageInfo;
    if (!pageInfo?.hasPreviousPage) return false;
    const variables = { before: pageInfo.startCursor };
    await this.#gate.during(async () => this.#histories.get(conversationId)?.fetchMore({ variables }));
    return true;
  }

  /** Oldest first, and last what is not acked, unless its event has come before the answer. */
  history(conversationId: string): { text: string; pending: boolean }[] {
    const acked = (this.#history(conversationId)?.edges ?? []).map(({ node }) => node);
    const known = new Set(acked.map(({ clientMessageId }) => clientMessageId));
    const waiting = this.#outbox.of(conversationId).filter(({ clientMessageId }) => !known.has(clientMessageId));
    return [
      ...acked.map(({ content }) => ({ text: content?.text ?? 'something newer', pending: false })),
      ...waiting.map(({ text }) => ({ text, pending: true })),
    ];
  }

  send(conversationId: string, text: string): Promise<void> {
    return this.#outbox.send(conversationId, text);
  }

  watchHistory(id: string) {
    return this.#client.watchQuery({ query: HistoryDocument, variables: { id, last: this.#pageSize } });
  }

  #list() {
    return this.#client.readQuery({ query: ConversationsDocument, variables: { first: 0 } })?.conversations;
  }

  #history(id: string) {
    return this.#client.readQuery({ query: HistoryDocument, variables: { id, last: 0 } })?.conversation?.messages;
  }

  #take(event: Event): void {
    if (event.__typename === 'ConversationAdded') this.#moveToTop(event.conversation);
    if (event.__typename === 'MessageSent') {
      this.#moveToTop(event.message.conversation);
      this.#show(event.message.conversation.id, event.message);
    }
    // What was missed cannot be told: fetch the newest pages of what is shown, which take the place of all older ones.
    if (event.__typename === 'ResyncRequired') {
      const shown: { refetch(): Promise<unknown> }[] = [this.#conversations, ...this.#histories.values()];
      for (const list of shown) void persist(() => this.#gate.during(() => list.refetch()));
    }
  }

  #show(id: string, message: LineFragment): void {
    this.#client.cache.updateQuery({ query: HistoryDocument, variables: { id, last: 0 } }, (data) => {
      if (!data?.conversation?.messages) return undefined;
      const { messages } = data.conversation;
      if (messages.edges.some(({ node }) => node.id === message.id)) return undefined;
      const edges = [...messages.edges, { __typename: 'MessageEdge' as const, cursor: '', node: message }];
      edges.sort((one, other) => one.node.seq - other.node.seq);
      return { ...data, conversation: { ...data.conversation, messages: { ...messages, edges } } };
    });
  }

  #moveToTop(conversation: RowFragment): void {
    this.#client.cache.updateQuery({ query: ConversationsDocument, variables: { first: 0 } }, (data) => {
      if (!data?.conversations) return undefined;
      const edge = { __typename: 'ConversationEdge' as const, cursor: '', node: conversation };
      const others = data.conversations.edges.filter(({ node }) => node.id !== conversation.id);
      return { ...data, conversations: { ...data.conversations, edges: [edge, ...others] } };
    });
  }
}
