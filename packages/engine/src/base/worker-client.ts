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
    const worker = new Worker(entry, { name, ...threadFlags() });
    this.#worker = worker;
    worker.on('message', (reply: WorkerReply) => this.#answer(reply));
    this.#ended = new Promise((resolve) => {
      worker.on('error', (error) => this.#die(`The ${name} thread failed: ${error.message}`, error));
      worker.on('exit', (code) => {
        this.#die(`The ${name} thread ended with code ${code}.`);
        resolve();
      });
    });
    // Only now: listening for messages makes it keep the process alive.
    worker.unref();
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
      try {
        this.#worker.postMessage(request, transfer);
      } catch (error) {
        this.#forget(call);
        reject(error);
      }
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
    this.#forget(reply.call);
    if (reply.error === undefined) waiting.resolve(reply.value);
    else waiting.reject(fromWire(reply.error));
  }

  #forget(call: number): void {
    this.#waiting.delete(call);
    if (this.#waiting.size === 0) this.#worker.unref();
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

/**
 * Flags for the thread where the process runs a program given as text: `--input-type` fails on a file, so the
 * flags are no longer inherited as they are, and those of V8 may not be given to a thread. What loads code into
 * every thread is kept.
 */
function threadFlags(): { execArgv?: string[] } {
  const inherited = process.execArgv;
  if (!inherited.some((flag) => flag.startsWith('--input-type'))) return {};
  const execArgv: string[] = [];
  for (let at = 0; at < inherited.length; at++) {
    const flag = inherited[at] as string;
    if (!/^(--import|--require|-r|--loader|--experimental-loader|--conditions|-C)(=|$)/.test(flag)) continue;
    execArgv.push(flag);
    if (!flag.includes('=')) execArgv.push(inherited[++at] as string);
  }
  return { execArgv };
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
