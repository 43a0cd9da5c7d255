// schema.graphql, read by the tools that clients use.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ESLint } from 'eslint';
import {
  buildClientSchema,
  buildSchema,
  getIntrospectionQuery,
  isEnumType,
  isIntrospectionType,
  isNonNullType,
  isSpecifiedScalarType,
  lexicographicSortSchema,
  parse,
  printSchema,
  validate,
  validateSchema,
} from 'graphql';
import { ask, url } from './server.mjs';

const root = new URL('../../', import.meta.url);
const sdl = readFileSync(new URL('schema.graphql', root), 'utf8');
const schema = buildSchema(sdl);
const printed = (each) => printSchema(lexicographicSortSchema(each));

// async-graphql answers `__Type.interfaces` of an interface with null. When it does no more, this goes.
const UNSAID = {
  missing: ['interface ConversationEvent implements Event {'],
  added: ['interface ConversationEvent {'],
};

describe('the schema', () => {
  it('is valid', () => assert.deepEqual(validateSchema(schema), []));

  it('is the same file at /schema.graphql', async () => {
    const response = await fetch(new URL('/schema.graphql', url));
    assert.equal(response.status, 200);
    assert.equal(await response.text(), sdl);
  });

  it('is what introspection says', async () => {
    const query = getIntrospectionQuery({
      descriptions: true,
      specifiedByUrl: true,
      directiveIsRepeatable: true,
      inputValueDeprecation: true,
      oneOf: true,
    });
    const said = printed(buildClientSchema(await ask(query)));
    const onlyIn = (one, other) => one.split('\n').filter((line) => !other.split('\n').includes(line));
    const written = printed(schema);
    assert.deepEqual({ missing: onlyIn(written, said), added: onlyIn(said, written) }, UNSAID);
  });

  it('gives every mutation one input and a payload with user errors', () => {
    for (const { name, args, type } of Object.values(schema.getMutationType().getFields())) {
      const stem = name[0].toUpperCase() + name.slice(1);
      assert.deepEqual(args.map((arg) => `${arg.name}: ${arg.type}`), [`input: ${stem}Input!`]);
      assert.equal(String(type), `${stem}Payload`);
      const { userErrors, ...others } = type.getFields();
      assert.equal(String(userErrors.type), '[UserError!]!', name);
      for (const field of Object.values(others)) assert.ok(!isNonNullType(field.type), `${type}.${field.name}`);
    }
  });

  it('describes every type, field, argument, input field and enum value', (test) => {
    const undescribed = [];
    let count = 0;
    const look = (name, { description }) => {
      count += 1;
      if (!description?.trim()) undescribed.push(name);
    };
    for (const type of Object.values(schema.getTypeMap())) {
      if (isIntrospectionType(type) || isSpecifiedScalarType(type)) continue;
      look(type.name, type);
      for (const value of isEnumType(type) ? type.getValues() : []) look(`${type.name}.${value.name}`, value);
      for (const field of Object.values(type.getFields?.() ?? {})) {
        look(`${type.name}.${field.name}`, field);
        for (const argument of field.args ?? []) look(`${type.name}.${field.name}(${argument.name}:)`, argument);
      }
    }
    test.diagnostic(`${count} described`);
    assert.deepEqual(undescribed, []);
  });

  it('keeps the rules of graphql-eslint', async () => {
    const eslint = new ESLint({
      cwd: fileURLToPath(root),
      overrideConfigFile: fileURLToPath(new URL('eslint.config.mjs', import.meta.url)),
    });
    const [{ messages }] = await eslint.lintFiles(['schema.graphql']);
    assert.deepEqual(messages.map(({ line, ruleId, message }) => `${line}: ${ruleId}: ${message}`), []);
  });

  it('accepts the examples of the explorer', () => {
    const folder = new URL('api/explorer/src/examples/', root);
    const names = readdirSync(folder);
    assert.ok(names.length > 0);
    for (const name of names) {
      const problems = validate(schema, parse(readFileSync(new URL(name, folder), 'utf8')));
      assert.deepEqual(problems.map(({ message }) => `${name}: ${message}`), []);
    }
  });
});
