/**
 * Where telemetry goes. The interfaces say what the engine calls of OpenTelemetry, so that the package needs its
 * API neither to compile nor to load; the providers of any SDK fit them.
 */
/** What an attribute may be. */
export type AttributeValue = string | number | boolean;
/** Attributes of measurements and spans, by name. */
export type Attributes = Readonly<Record<string, AttributeValue>>;

/** The providers of an OpenTelemetry SDK. */
export interface TelemetryOptions {
  /** Of an OpenTelemetry SDK; `'global'` takes the one registered with `@opentelemetry/api` when `start()` is called. */
  readonly meterProvider?: MeterProviderLike | 'global';
  /** The same for spans. Either way `@opentelemetry/api` has to be installed, as every SDK demands. */
  readonly tracerProvider?: TracerProviderLike | 'global';
  /** Put on every measurement and span. Tells two engines of one process apart. No secrets. */
  readonly attributes?: Attributes;
}

// ── Metrics ────────────────────────────────────────────────────────────────────────────────────────────────────

/** What an instrument is made with. */
export interface InstrumentOptions {
  description?: string;
  unit?: string;
  advice?: { explicitBucketBoundaries?: number[] };
}

/** A histogram of a meter. */
export interface HistogramLike {
  /** One measurement. */
  record(value: number, attributes?: Record<string, AttributeValue>): void;
}

/** Where a callback puts what it observes. */
export interface BatchResultLike {
  /** One value of one instrument. */
  observe(instrument: object, value: number, attributes?: Record<string, AttributeValue>): void;
}

/** What the engine calls of a meter. */
export interface MeterLike {
  /** For what is measured as it happens. */
  createHistogram(name: string, options?: InstrumentOptions): HistogramLike;
  /** For what only grows, read when it is collected. */
  createObservableCounter(name: string, options?: InstrumentOptions): object;
  /** For what goes up and down, read when it is collected. */
  createObservableGauge(name: string, options?: InstrumentOptions): object;
  /** Calls back at each collection. */
  addBatchObservableCallback(callback: (result: BatchResultLike) => void, instruments: object[]): void;
  /** Ends that. */
  removeBatchObservableCallback(callback: (result: BatchResultLike) => void, instruments: object[]): void;
}

/** What the engine calls of a meter provider. */
export interface MeterProviderLike {
  /** The meter of a library. */
  getMeter(name: string, version?: string): MeterLike;
}

// ── Spans ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** Which span of which trace. */
export interface SpanContextLike {
  readonly traceId: string;
  readonly spanId: string;
  readonly traceFlags: number;
  readonly isRemote?: boolean;
  readonly traceState?: unknown;
}

/** What the engine calls of a span. */
export interface SpanLike {
  /** Which span it is. */
  spanContext(): SpanContextLike;
  /** Adds a fact. */
  setAttribute(key: string, value: AttributeValue): unknown;
  /** Says how it went. */
  setStatus(status: { code: number; message?: string }): unknown;
  /** Notes a moment within it. */
  addEvent(name: string): unknown;
  /** It is over. */
  end(): void;
}

/** What the engine calls of a tracer. */
export interface TracerLike {
  /** Begins a span. The context is opaque here: it comes from the API and goes back to it. */
  startSpan(name: string, options?: object, context?: never): SpanLike;
}

/** What the engine calls of a tracer provider. */
export interface TracerProviderLike {
  /** The tracer of a library. */
  getTracer(name: string, version?: string): TracerLike;
}

// ── The check ──────────────────────────────────────────────────────────────────────────────────────────────────

const KNOWN = ['meterProvider', 'tracerProvider', 'attributes'];

/** What is wrong with the options, one sentence each. */
export function* telemetryProblems(options: unknown): Generator<string> {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    yield 'telemetry must be an object of meterProvider and tracerProvider';
    return;
  }
  const given = options as Readonly<Record<string, unknown>>;
  for (const key of Object.keys(given))
    if (!KNOWN.includes(key))
      yield `telemetry has the unknown key ${JSON.stringify(key)}; known are ${KNOWN.join(', ')}`;
  if (!isProvider(given['meterProvider'], 'getMeter'))
    yield "telemetry.meterProvider must be 'global' or have getMeter()";
  if (!isProvider(given['tracerProvider'], 'getTracer'))
    yield "telemetry.tracerProvider must be 'global' or have getTracer()";
  if (!areAttributes(given['attributes']))
    yield 'telemetry.attributes must be an object of strings, numbers and booleans';
}

function isProvider(value: unknown, method: string): boolean {
  if (value === undefined || value === 'global') return true;
  return typeof (value as Record<string, unknown> | null)?.[method] === 'function';
}

function areAttributes(value: unknown): boolean {
  if (value === undefined) return true;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((one) => ['string', 'number', 'boolean'].includes(typeof one));
}
