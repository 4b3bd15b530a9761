/** Waiting that a caller's signal ends. What was waited for goes on: others may share it. */
import { SyncEngineError } from '../base/errors.js';

/** @throws `ABORTED` once the signal is aborted. */
export function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise<T>((resolve, reject) => {
    const abort = (): void =>
      reject(new SyncEngineError('ABORTED', 'The caller gave up waiting for the answer.'));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
