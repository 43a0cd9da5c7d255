import { register } from 'node:module';

register('./graphql-tag.mjs', import.meta.url);
