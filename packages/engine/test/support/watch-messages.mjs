/** Imported before a worker's entry: shows each message to `globalThis.onMessage` before the entry sees it. */
import { parentPort } from 'node:worker_threads';

const on = parentPort.on.bind(parentPort);
parentPort.on = (event, listener) =>
  on(event, (message) => {
    globalThis.onMessage?.(message);
    listener(message);
  });
