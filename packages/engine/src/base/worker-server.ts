/** The worker's end of `WorkerClient`: answers each request with the value or the error of its handler. */
import { parentPort, type Transferable } from 'node:worker_threads';
import { type ErrorCode, type ErrorContext, messageOf, type Outcome, SyncEngineError } from './errors.js';

export interface WorkerRequest {
  readonly call: number;
  readonly method: string;
  readonly args: unknown;
}

/** An error as it crosses the thread boundary. `code` is absent for a bug. */
export interface WireError {
  readonly code?: ErrorCode;
  readonly message: string;
  readonly outcome?: Outcome;
  readonly context?: ErrorContext;
  readonly cause?: string;
}

export interface WorkerReply {
  readonly call: number;
  readonly value?: unknown;
  readonly error?: WireError;
}

/** A handler's answer, with buffers that move to the main thread instead of being copied. */
export interface Answer {
  readonly value: unknown;
  readonly transfer?: readonly Transferable[];
}

export type Handlers = Readonly<Record<string, (args: never) => Answer | Promise<Answer>>>;

export function serveWorker(handlers: Handlers): void {
  const port = parentPort;
  if (port === null) throw new Error('This file is the entry of a worker thread; it is not to be imported.');
  port.on('message', async (request: WorkerRequest) => {
    try {
      const handler = handlers[request.method];
      if (handler === undefined) throw new Error(`No handler for ${request.method}.`);
      const answer = await handler(request.args as never);
      port.postMessage({ call: request.call, value: answer.value } satisfies WorkerReply, answer.transfer);
    } catch (error) {
      port.postMessage({ call: request.call, error: toWire(error) } satisfies WorkerReply);
    }
  });
}

export function toWire(error: unknown): WireError {
  if (!(error instanceof SyncEngineError)) return { message: messageOf(error) };
  return {
    code: error.code,
    message: error.message,
    outcome: error.outcome,
    context: error.context,
    ...(error.cause === undefined ? {} : { cause: messageOf(error.cause) }),
  };
}
