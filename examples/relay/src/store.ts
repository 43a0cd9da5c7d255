// What events, answers and optimistic sends do to the lists in Relay's store.
import { ConnectionHandler, type RecordProxy, type RecordSourceProxy } from 'relay-runtime';

const PENDING = 'client:pending:';

export const isPending = (messageId: string) => messageId.startsWith(PENDING);

function historyOf(store: RecordSourceProxy, conversationId: string): RecordProxy | null | undefined {
  const conversation = store.get(conversationId);
  return conversation && ConnectionHandler.getConnection(conversation, 'History_messages');
}

const nodesOf = (connection: RecordProxy) =>
  (connection.getLinkedRecords('edges') ?? []).map((edge) => edge.getLinkedRecord('node'));

/** Puts a message where its `seq` belongs, unless it is there already. */
export function show(store: RecordSourceProxy, conversationId: string, message: RecordProxy): void {
  const history = historyOf(store, conversationId);
  if (!history || nodesOf(history).some((node) => node?.getDataID() === message.getDataID())) return;
  const edge = ConnectionHandler.createEdge(store, history, message, 'MessageEdge');
  edge.setValue('', 'cursor');
  const seq = (record: RecordProxy) => Number(record.getLinkedRecord('node')?.getValue('seq'));
  const edges = [...(history.getLinkedRecords('edges') ?? []), edge];
  history.setLinkedRecords(edges.sort((one, other) => seq(one) - seq(other)), 'edges');
}

/**
 * Shows a message that is not acked. Relay runs this anew on whatever arrives meanwhile, so that the message is gone from here
 * as soon as its event is there, which may be before the answer.
 */
export function showPending(store: RecordSourceProxy, conversationId: string, clientMessageId: string, text: string): void {
  const history = historyOf(store, conversationId);
  if (!history || nodesOf(history).some((node) => node?.getValue('clientMessageId') === clientMessageId)) return;
  const id = PENDING + clientMessageId;
  const content = store.create(`${id}:content`, 'TextContent').setValue(text, 'text');
  const message = store.create(id, 'Message').setValue(id, 'id').setValue(clientMessageId, 'clientMessageId');
  message.setValue(Number.MAX_SAFE_INTEGER, 'seq').setLinkedRecord(content, 'content');
  show(store, conversationId, message);
}

/** Puts a conversation at the top of the list. */
export function moveToTop(store: RecordSourceProxy, conversation: RecordProxy): void {
  const list = ConnectionHandler.getConnection(store.getRoot(), 'ConversationList_conversations');
  if (!list) return;
  ConnectionHandler.deleteNode(list, conversation.getDataID());
  const edge = ConnectionHandler.createEdge(store, list, conversation, 'ConversationEdge');
  edge.setValue('', 'cursor');
  ConnectionHandler.insertEdgeBefore(list, edge);
}
