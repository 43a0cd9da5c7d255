// The live subscription: opened before anything is fetched, and resumed where it was cut.
import { graphql, requestSubscription, type Environment } from 'relay-runtime';
import { follow } from '../../shared/live.ts';
import { moveToTop, show } from './store.ts';
import type { eventsSubscription } from './__generated__/eventsSubscription.graphql.ts';

const EVENTS = graphql`
  subscription eventsSubscription($after: EventCursor) {
    events(after: $after) {
      __typename
      cursor
      ... on ConversationAdded {
        conversation {
          id
          title
          unreadCount
        }
      }
      ... on MessageSent {
        message {
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
          conversation {
            id
            title
            unreadCount
          }
        }
      }
    }
  }
`;

/** Calls `opened` after `StreamOpened`, and `resync` when everything has to be fetched anew. */
export function listen(environment: Environment, opened: () => void, resync: () => void): () => void {
  return follow<eventsSubscription['response']['events']>(
    (after, sink) => {
      const subscription = requestSubscription<eventsSubscription>(environment, {
        subscription: EVENTS,
        variables: { after },
        updater: (store) => {
          const event = store.getRootField('events');
          const conversation = event?.getLinkedRecord('conversation');
          if (event?.getType() === 'ConversationAdded' && conversation) moveToTop(store, conversation);
          const message = event?.getLinkedRecord('message');
          const itsConversation = message?.getLinkedRecord('conversation');
          if (event?.getType() !== 'MessageSent' || !message || !itsConversation) return;
          moveToTop(store, itsConversation);
          show(store, itsConversation.getDataID(), message);
        },
        onNext: (data) => data && sink.event(data.events),
        onError: () => sink.ended(),
        onCompleted: () => sink.ended(),
      });
      return () => subscription.dispose();
    },
    ({ __typename }) => {
      if (__typename === 'StreamOpened') opened();
      if (__typename === 'ResyncRequired') resync();
    },
  );
}
