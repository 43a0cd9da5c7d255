// Puts what relay-compiler made in the place of each graphql`…`, as babel-plugin-relay does in a bundler:
// node --import tsx --import ./relay/register.mjs …
const OPERATION = /graphql`\s*(?:query|mutation|subscription|fragment)\s+(\w+)[^`]*`/g;

export async function load(url, context, next) {
  const loaded = await next(url, context);
  if (!url.includes('/relay/src/') || url.includes('/__generated__/')) return loaded;
  const names = [];
  const source = String(loaded.source).replace(OPERATION, (_, name) => {
    names.push(name);
    return name;
  });
  const imports = names.map((name) => `import ${name} from './__generated__/${name}.graphql.ts';`);
  return { ...loaded, source: imports.join('') + source };
}
