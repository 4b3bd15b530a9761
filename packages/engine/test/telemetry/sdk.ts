/** Real OpenTelemetry SDKs that keep what they get in memory. */
import { context, type Attributes as OtelAttributes, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import {
  AggregationTemporality,
  type Histogram,
  MeterProvider,
  MetricReader,
} from '@opentelemetry/sdk-metrics';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { onTestFinished } from 'vitest';

class PullReader extends MetricReader {
  protected override async onShutdown(): Promise<void> {}
  protected override async onForceFlush(): Promise<void> {}
}

export interface Point {
  readonly labels: OtelAttributes;
  readonly value: number;
}

export interface Meters {
  readonly meterProvider: MeterProvider;
  /** Collects; values of one metric, histograms by their count. */
  points(name: string): Promise<Point[]>;
  /** The one value with these labels. */
  value(name: string, labels?: OtelAttributes): Promise<number | undefined>;
  names(): Promise<string[]>;
  /** Everything that was collected, as text. */
  text(): Promise<string>;
}

export function meters(): Meters {
  const reader = new PullReader({ aggregationTemporalitySelector: () => AggregationTemporality.CUMULATIVE });
  const meterProvider = new MeterProvider({ readers: [reader] });
  const collect = async () => {
    const { resourceMetrics, errors } = await reader.collect();
    if (errors.length > 0) throw errors[0];
    return resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics);
  };
  const points = async (name: string): Promise<Point[]> => {
    const metric = (await collect()).find(({ descriptor }) => descriptor.name === name);
    return (metric?.dataPoints ?? []).map(({ attributes, value }) => ({
      labels: attributes,
      value: typeof value === 'number' ? value : (value as Histogram).count,
    }));
  };
  return {
    meterProvider,
    points,
    value: async (name, labels = {}) =>
      (await points(name)).find(
        (point) => JSON.stringify(sorted(point.labels)) === JSON.stringify(sorted(labels)),
      )?.value,
    names: async () => (await collect()).map(({ descriptor }) => descriptor.name),
    text: async () => JSON.stringify(await collect()),
  };
}

function sorted(labels: OtelAttributes): [string, unknown][] {
  return Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
}

export interface Tracers {
  readonly tracerProvider: BasicTracerProvider;
  /** Ended spans, oldest first. */
  readonly spans: readonly ReadableSpan[];
  named(name: string): ReadableSpan[];
  /** Runs below a span of its own. */
  below<T>(run: () => Promise<T>): Promise<T>;
}

export function tracers(): Tracers {
  const exporter = new InMemorySpanExporter();
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  onTestFinished(() => context.disable());
  return {
    tracerProvider,
    get spans() {
      return exporter.getFinishedSpans();
    },
    named: (name) => exporter.getFinishedSpans().filter((span) => span.name === name),
    below: (run) => {
      const span = tracerProvider.getTracer('test').startSpan('caller');
      return context.with(trace.setSpan(context.active(), span), run).finally(() => span.end());
    },
  };
}
