// Types and documents from the schema: `npm run generate`. Relay has a compiler of its own.
import type { CodegenConfig } from '@graphql-codegen/cli';

// Scalars have the types that they have in JSON; one that is not named here stops the run.
const operations = {
  plugins: ['typescript-operations', 'typed-document-node'],
  config: {
    strictScalars: true,
    defaultScalarType: 'unknown',
    scalars: { ID: 'string', DateTime: 'string', EventCursor: 'string' },
    enumType: 'string-literal',
    useTypeImports: true,
  },
};

const config: CodegenConfig = {
  schema: '../schema.graphql',
  generates: {
    'shared/generated.ts': { documents: 'shared/*.graphql', ...operations },
    'apollo/src/generated.ts': { documents: 'apollo/src/*.graphql', ...operations },
    'urql/src/generated.ts': { documents: 'urql/src/*.graphql', ...operations },
    // Graphcache has to know which type is of which interface.
    'urql/src/schema.ts': { plugins: ['urql-introspection'], config: { useTypeImports: true } },
  },
};

export default config;
