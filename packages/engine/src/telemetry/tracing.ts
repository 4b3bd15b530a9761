/**
 * Spans. Those of a caller's work (submit, get) exist only below the caller's own span, or in the trace that an
 * item names: alone they would be a trace of one span for each write. Those of the engine's own work (flush, apply,
 * drain) begin traces, and link the traces of the items.
 *
 * A tracer that throws costs its spans, never an operation.
 */
import { SyncEngineError } from '../base/errors.js';
import type { Attributes, AttributeValue, SpanContextLike, SpanLike, TracerLike } from './options.js';
import { parseTraceParent } from './trace-context.js';

export const SPANS = [
  'sync_engine.start',
  'sync_engine.shutdown',
  'sync_engine.submit',
  'sync_engine.delete',
  'sync_engine.get',
  'sync_engine.flush',
  'sync_engine.apply',
  'sync_engine.drain',
] as const;

export type SpanName = (typeof SPANS)[number];

/** More are dropped by SDKs as a rule (OTEL_SPAN_LINK_COUNT_LIMIT). */
const LINKS_MAX = 128;
/** The `SpanStatusCode.ERROR` of the API. */
const STATUS_ERROR = 2;

/** What is used of `@opentelemetry/api`. */
export interface TracingApi {
  readonly ROOT_CONTEXT: unknown;
  readonly context: { active(): unknown };
  readonly trace: {
    getSpan(context: never): SpanLike | undefined;
    setSpan(context: never, span: never): unknown;
    setSpanContext(context: never, spanContext: never): unknown;
  };
  createTraceState(text?: string): unknown;
}

/** Where an item says that it belongs. */
export interface TraceCarrier {
  readonly traceParent?: string | undefined;
  readonly traceState?: string | undefined;
}

/** A span that never throws, and ends once. */
export class Span {
  readonly #span: SpanLike;
  readonly #tracing: Tracing;
  #ended = false;

  constructor(span: SpanLike, tracing: Tracing) {
    this.#span = span;
    this.#tracing = tracing;
  }

  /** A span below this one. */
  child(name: SpanName, attributes: Attributes = {}): Span | undefined {
    return this.#tracing.below(this.#span, name, attributes);
  }

  set(key: string, value: AttributeValue): void {
    this.#tracing.guard(() => this.#span.setAttribute(key, value));
  }

  event(name: string): void {
    this.#tracing.guard(() => this.#span.addEvent(name));
  }

  /** With an error its code is noted, not its message: a message can repeat what the caller gave. */
  end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#tracing.guard(() => {
      if (error !== undefined) {
        const code = codeOf(error);
        this.#span.setAttribute('error.type', code);
        this.#span.setStatus({ code: STATUS_ERROR, message: code });
      }
      this.#span.end();
    });
  }

  /** Ends with the promise, which is returned. */
  during<T>(work: Promise<T>): Promise<T> {
    return work.then(
      (value) => {
        this.end();
        return value;
      },
      (error: unknown) => {
        this.end(error);
        throw error;
      },
    );
  }
}

export class Tracing {
  readonly #tracer: TracerLike;
  readonly #api: TracingApi;
  readonly #constant: Attributes;
  readonly #failed: (error: unknown) => void;

  constructor(tracer: TracerLike, api: TracingApi, constant: Attributes, failed: (error: unknown) => void) {
    this.#tracer = tracer;
    this.#api = api;
    this.#constant = constant;
    this.#failed = failed;
  }

  /** For work that a caller waits for: below the active span, else in the item's trace, else none. */
  caller(name: SpanName, attributes: Attributes, item: TraceCarrier = {}): Span | undefined {
    return this.#guarded(() => {
      const active = this.#api.context.active();
      const parent = this.#api.trace.getSpan(active as never)?.spanContext();
      const named = this.#linkOf(item);
      if (parent !== undefined) {
        const links = named === undefined || named.traceId === parent.traceId ? [] : [named];
        return this.#start(name, attributes, active, links);
      }
      if (named === undefined) return undefined;
      const remote = this.#api.trace.setSpanContext(active as never, named as never);
      return this.#start(name, attributes, remote, []);
    });
  }

  /** For calls that are worth a trace of their own where there is none. */
  operation(name: SpanName, attributes: Attributes = {}): Span | undefined {
    return this.#guarded(() => this.#start(name, attributes, this.#api.context.active(), []));
  }

  /** For work of the engine: the beginning of a trace, linked to those of the items. */
  background(name: SpanName, attributes: Attributes, items: Iterable<TraceCarrier>): Span | undefined {
    return this.#guarded(() =>
      this.#start(name, attributes, this.#api.ROOT_CONTEXT, [...this.#linksOf(items)], true),
    );
  }

  /** @internal */
  below(parent: SpanLike, name: SpanName, attributes: Attributes): Span | undefined {
    return this.#guarded(() => {
      const context = this.#api.trace.setSpan(this.#api.ROOT_CONTEXT as never, parent as never);
      return this.#start(name, attributes, context, []);
    });
  }

  /** @internal */
  guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#failed(error);
    }
  }

  #guarded<T>(run: () => T | undefined): T | undefined {
    try {
      return run();
    } catch (error) {
      this.#failed(error);
      return undefined;
    }
  }

  #start(
    name: SpanName,
    attributes: Attributes,
    context: unknown,
    links: readonly SpanContextLike[],
    root = false,
  ): Span {
    const options = {
      attributes: { ...this.#constant, ...attributes },
      links: links.map((link) => ({ context: link })),
      root,
    };
    return new Span(this.#tracer.startSpan(name, options, context as never), this);
  }

  *#linksOf(items: Iterable<TraceCarrier>): Generator<SpanContextLike> {
    const seen = new Set<string>();
    for (const item of items) {
      if (item.traceParent === undefined || seen.has(item.traceParent)) continue;
      const link = this.#linkOf(item);
      if (link === undefined) continue;
      seen.add(item.traceParent);
      yield link;
      if (seen.size === LINKS_MAX) return;
    }
  }

  #linkOf({ traceParent, traceState }: TraceCarrier): SpanContextLike | undefined {
    const parsed = parseTraceParent(traceParent);
    if (parsed === undefined) return undefined;
    const state = traceState === undefined ? {} : { traceState: this.#api.createTraceState(traceState) };
    return { ...parsed, ...state, isRemote: true };
  }
}

function codeOf(error: unknown): string {
  if (error instanceof SyncEngineError) return error.code;
  return error instanceof Error ? error.name : 'unknown';
}
