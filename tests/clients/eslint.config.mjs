// The rules for schema.graphql, with every exception and its reason. Alone, from the root folder:
// tests/clients/node_modules/.bin/eslint --config tests/clients/eslint.config.mjs schema.graphql
import { fileURLToPath } from 'node:url';
import { configs, parser, rules } from '@graphql-eslint/eslint-plugin';

// Never fetched again by themselves: they are read with what they belong to, so they have no id.
const PARTS = [
  'Budget',
  'Credentials',
  'Limits',
  'PageInfo',
  'Presence',
  'QuietHours',
  'RateLimit',
  'UserError',
  'UserPresence',
];
const PART_SUFFIXES = ['Payload', 'Connection', 'Edge', 'Content'];
// An event is named by its conversation and `rev`, or is a mark in the stream.
const EVENTS = [
  'ActivityOpened',
  'ConversationAdded',
  'ConversationChanged',
  'MemberAdded',
  'MemberChanged',
  'MemberRemoved',
  'MessageSent',
  'PresenceChanged',
  'ReadMarked',
  'ResyncRequired',
  'StreamLive',
  'StreamOpened',
  'TypingChanged',
];
// `username` is one English word, and what people call it.
const WORDS_WITH_PREFIX = ['username'];

// The rule takes no exceptions of its own.
const prefixRule = rules['no-typename-prefix'];
const noTypenamePrefix = {
  ...prefixRule,
  create: (context) =>
    prefixRule.create(
      Object.create(context, {
        report: {
          value: (problem) => WORDS_WITH_PREFIX.includes(problem.data?.fieldName) || context.report(problem),
        },
      }),
    ),
};

export default [
  {
    files: ['**/*.graphql'],
    languageOptions: {
      parser,
      parserOptions: { graphQLConfig: { schema: fileURLToPath(new URL('../../schema.graphql', import.meta.url)) } },
    },
    plugins: { '@graphql-eslint': { rules: { ...rules, 'no-typename-prefix': noTypenamePrefix } } },
    rules: {
      ...configs['flat/schema-recommended'].rules,
      ...configs['flat/schema-relay'].rules,
      // Connections have `nodes` beside `edges`, and short lists that are never paged are plain lists.
      '@graphql-eslint/relay-edge-types': [
        'error',
        { withEdgeSuffix: true, shouldImplementNode: true, listTypeCanWrapOnlyEdgeType: false },
      ],
      '@graphql-eslint/strict-id-in-types': [
        'error',
        {
          acceptedIdNames: ['id'],
          acceptedIdTypes: ['ID'],
          exceptions: { types: [...PARTS, ...EVENTS], suffixes: PART_SUFFIXES },
        },
      ],
    },
  },
];
