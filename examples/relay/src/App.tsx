// A chat on Relay and React: a list of conversations, and the histories that are open.
import { Suspense, useEffect, useState, type FormEvent } from 'react';
import { useLazyLoadQuery, useMutation, usePaginationFragment, useRelayEnvironment } from 'react-relay';
import { graphql } from 'relay-runtime';
import { listen } from './events.ts';
import { isPending, show, showPending } from './store.ts';
import type { AppHistoryQuery } from './__generated__/AppHistoryQuery.graphql.ts';
import type { AppListQuery } from './__generated__/AppListQuery.graphql.ts';
import type { AppSendMutation } from './__generated__/AppSendMutation.graphql.ts';
import type { App_history$key } from './__generated__/App_history.graphql.ts';
import type { App_list$key } from './__generated__/App_list.graphql.ts';

export interface Sizes {
  conversations: number;
  messages: number;
}

export function App({ sizes }: { sizes: Sizes }) {
  const environment = useRelayEnvironment();
  const [opened, setOpened] = useState(false);
  const [generation, setGeneration] = useState(0);
  const [histories, setHistories] = useState<readonly string[]>([]);
  useEffect(() => {
    const resync = () => setGeneration((before) => before + 1);
    return listen(environment, () => setOpened(true), resync);
  }, [environment]);

  // Live first, lists after `StreamOpened`: nothing falls between the two.
  if (!opened) return <p>Connecting …</p>;
  const open = (id: string) => setHistories((ids) => (ids.includes(id) ? ids : [...ids, id]));
  return (
    <Suspense fallback={<p>Loading …</p>}>
      <ConversationList size={sizes.conversations} generation={generation} open={open} />
      {histories.map((id) => (
        <Suspense key={id} fallback={<p>Loading …</p>}>
          <History id={id} size={sizes.messages} generation={generation} />
        </Suspense>
      ))}
    </Suspense>
  );
}

interface Shown {
  size: number;
  /** What is shown is fetched anew when it changes. */
  generation: number;
}

function ConversationList({ size, generation, open }: Shown & { open: (id: string) => void }) {
  const root = useLazyLoadQuery<AppListQuery>(
    graphql`
      query AppListQuery($count: Int!, $cursor: String) {
        ...App_list @arguments(count: $count, cursor: $cursor)
      }
    `,
    { count: size },
    { fetchPolicy: 'store-and-network', fetchKey: generation },
  );
  const { data, hasNext, isLoadingNext, loadNext } = usePaginationFragment<AppListQuery, App_list$key>(
    graphql`
      fragment App_list on Query
      @refetchable(queryName: "AppListPageQuery")
      @argumentDefinitions(count: { type: "Int!" }, cursor: { type: "String" }) {
        conversations(first: $count, after: $cursor) @connection(key: "ConversationList_conversations") {
          edges {
            node {
              id
              title
              unreadCount
            }
          }
        }
      }
    `,
    root,
  );
  return (
    <nav>
      {data.conversations?.edges.map(({ node: { id, title, unreadCount } }) => (
        <button key={id} name="open" value={id} data-unread={unreadCount} onClick={() => open(id)}>
          {title}
        </button>
      ))}
      {hasNext && (
        <button name="more" disabled={isLoadingNext} onClick={() => loadNext(size)}>
          More
        </button>
      )}
    </nav>
  );
}

function History({ id, size, generation }: Shown & { id: string }) {
  const { conversation } = useLazyLoadQuery<AppHistoryQuery>(
    graphql`
      query AppHistoryQuery($id: ID!, $count: Int!, $cursor: String) {
        conversation(id: $id) {
          ...App_history @arguments(count: $count, cursor: $cursor)
        }
      }
    `,
    { id, count: size },
    { fetchPolicy: 'store-and-network', fetchKey: generation },
  );
  return conversation && <Messages id={id} size={size} conversation={conversation} />;
}

function Messages({ id, size, conversation }: { id: string; size: number; conversation: App_history$key }) {
  const { data, hasPrevious, isLoadingPrevious, loadPrevious } = usePaginationFragment<AppHistoryQuery, App_history$key>(
    graphql`
      fragment App_history on Conversation
      @refetchable(queryName: "AppHistoryPageQuery")
      @argumentDefinitions(count: { type: "Int!" }, cursor: { type: "String" }) {
        title
        messages(last: $count, before: $cursor) @connection(key: "History_messages") {
          edges {
            node {
              id
              seq
              clientMessageId
              content {
                __typename
                ... on TextContent {
                  text
                }
                ... on SystemContent {
                  text
                }
              }
            }
          }
        }
      }
    `,
    conversation,
  );
  return (
    <section id={id}>
      <h2>{data.title}</h2>
      {hasPrevious && (
        <button name="older" disabled={isLoadingPrevious} onClick={() => loadPrevious(size)}>
          Older
        </button>
      )}
      <ol>
        {data.messages?.edges.map(({ node }) => (
          <li key={node.id} data-pending={isPending(node.id)}>
            {node.content && 'text' in node.content ? node.content.text : 'something newer'}
          </li>
        ))}
      </ol>
      <Composer conversationId={id} />
    </section>
  );
}

function Composer({ conversationId }: { conversationId: string }) {
  const [problem, setProblem] = useState<string>();
  const [commit, isInFlight] = useMutation<AppSendMutation>(graphql`
    mutation AppSendMutation($input: SendMessageInput!) {
      sendMessage(input: $input) {
        message {
          id
          seq
          clientMessageId
          content {
            __typename
            ... on TextContent {
              text
            }
          }
        }
        userErrors {
          code
          message
        }
      }
    }
  `);
  const send = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const field = event.currentTarget.elements.namedItem('text') as HTMLInputElement;
    const text = field.value;
    field.value = '';
    // Made before the first try, and the same for every other.
    const clientMessageId = crypto.randomUUID();
    commit({
      variables: { input: { conversationId, clientMessageId, content: { text: { text } } } },
      optimisticUpdater: (store) => showPending(store, conversationId, clientMessageId, text),
      updater: (store) => {
        const message = store.getRootField('sendMessage')?.getLinkedRecord('message');
        if (message) show(store, conversationId, message);
      },
      onCompleted: ({ sendMessage }) => setProblem(sendMessage?.userErrors[0]?.code),
      onError: ({ message }) => setProblem(message),
    });
  };
  return (
    <form onSubmit={send}>
      <input name="text" />
      <output>{isInFlight ? 'Sending …' : problem}</output>
    </form>
  );
}
