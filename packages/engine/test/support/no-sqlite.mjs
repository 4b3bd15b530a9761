/** Preloaded: the package better-sqlite3 is not installed. */
import { register } from 'node:module';

const hooks = `
  export function resolve(name, context, next) {
    if (name !== 'better-sqlite3') return next(name, context);
    throw Object.assign(new Error("Cannot find package 'better-sqlite3'"), { code: 'ERR_MODULE_NOT_FOUND' });
  }
`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
