/** Preloaded: the package @opentelemetry/api is not installed. */
import { register } from 'node:module';

const hooks = `
  export function resolve(name, context, next) {
    if (name !== '@opentelemetry/api') return next(name, context);
    throw Object.assign(new Error("Cannot find package '@opentelemetry/api'"), { code: 'ERR_MODULE_NOT_FOUND' });
  }
`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
