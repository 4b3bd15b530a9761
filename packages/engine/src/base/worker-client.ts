/**
 * The main thread's end of a worker: numbered requests, each answered once. When the worker dies, every
 * request under way rejects with `WorkerDied`; nothing waits for an answer that cannot come.
 *
 * The worker keeps the process alive only while a request is under way.
 */
import { type Transferable, Worker } from 'node:worker_threads';
import { SyncEngineError } from './errors.js';
import type { WireError, WorkerReply, WorkerRequest } from './worker-server.js';

/** The thread is gone; what it was doing may or may not have taken effect. */
export class WorkerDied extends Error {
  override readonly name = 'WorkerDied';
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

export class WorkerClient {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #nextCall = 1;
  #death: WorkerDied | undefined;
  readonly #ended: Promise<void>;

  constructor(entry: URL, name: string) {
    const worker = new Worker(entry, { name, execArgv: inheritedFlags() });
    this.#worker = worker;
    worker.unref();
    worker.on('message', (reply: WorkerReply) => this.#answer(reply));
    this.#ended = new Promise((resolve) => {
      worker.on('error', (error) => this.#die(`The ${name} thread failed: ${error.message}`, error));
      worker.on('exit', (code) => {
        this.#die(`The ${name} thread ended with code ${code}.`);
        resolve();
      });
    });
  }

  get alive(): boolean {
    return this.#death === undefined;
  }

  request<T>(method: string, args: unknown, transfer: readonly Transferable[] = []): Promise<T> {
    if (this.#death !== undefined) return Promise.reject(this.#death);
    return new Promise<T>((resolve, reject) => {
      const call = this.#nextCall++;
      if (this.#waiting.size === 0) this.#worker.ref();
      this.#waiting.set(call, { resolve: resolve as (value: unknown) => void, reject });
      const request: WorkerRequest = { call, method, args };
      this.#worker.postMessage(request, transfer);
    });
  }

  /** Ends the thread at once, whatever it is doing. Requests under way reject with `WorkerDied`. */
  async terminate(): Promise<void> {
    this.#die('The thread was ended.');
    await this.#worker.terminate();
    await this.#ended;
  }

  #answer(reply: WorkerReply): void {
    const waiting = this.#waiting.get(reply.call);
    if (waiting === undefined) return;
    this.#waiting.delete(reply.call);
    if (this.#waiting.size === 0) this.#worker.unref();
    if (reply.error === undefined) waiting.resolve(reply.value);
    else waiting.reject(fromWire(reply.error));
  }

  #die(message: string, cause?: unknown): void {
    if (this.#death !== undefined) return;
    this.#death = new WorkerDied(message, cause === undefined ? undefined : { cause });
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#worker.unref();
    for (const one of waiting) one.reject(this.#death);
  }
}

/** Node's flags of this process, without those that speak of a program given as text: they fail on a file. */
function inheritedFlags(): string[] {
  const flags: string[] = [];
  for (let at = 0; at < process.execArgv.length; at++) {
    const flag = process.execArgv[at] as string;
    if (/^(-e|--eval|-p|--print|-pe)$/.test(flag)) at++;
    else if (!/^(--input-type|--eval=|--print=)/.test(flag)) flags.push(flag);
  }
  return flags;
}

/** The error that a worker sent, as it was thrown there. */
export function fromWire(error: WireError): Error {
  const cause = error.cause === undefined ? undefined : new Error(error.cause);
  if (error.code === undefined) return new Error(error.message, cause === undefined ? undefined : { cause });
  return new SyncEngineError(error.code, error.message, {
    ...(error.outcome === undefined ? {} : { outcome: error.outcome }),
    ...(error.context === undefined ? {} : { context: error.context }),
    ...(cause === undefined ? {} : { cause }),
  });
}
