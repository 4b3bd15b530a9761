/** A logger that cannot harm who logs: what it throws is dropped. There is no better place to say so. */
import type { Logger } from '../ports/ports.js';

export function guardedLogger(logger: Logger): Logger {
  const guarded =
    (level: keyof Logger) =>
    (fields: object, message: string): void => {
      try {
        logger[level](fields, message);
      } catch {
        // The words are lost; the engine goes on.
      }
    };
  return {
    debug: guarded('debug'),
    info: guarded('info'),
    warn: guarded('warn'),
    error: guarded('error'),
  };
}
