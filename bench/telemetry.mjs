/** What telemetry costs on a value that is in memory: an engine with it beside one without, in turns. */
import { subscribe } from 'node:diagnostics_channel';
import { AggregationTemporality, MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { SyncEngine, SyncItem } from 'sync-engine';
import { compete, keep, rateOf, report } from './measure.mjs';

const KEYS = 10_000;
const OPERATIONS = 100_000;
const ROUNDS = 21;
const keys = Array.from({ length: KEYS }, (_, at) => `geo.GB.ENG.place.${at}`);
const value = Buffer.alloc(256, 7);

class Reader extends MetricReader {
  async onShutdown() {}
  async onForceFlush() {}
}
const reader = new Reader({ aggregationTemporalitySelector: () => AggregationTemporality.CUMULATIVE });
const telemetry = {
  meterProvider: new MeterProvider({ readers: [reader] }),
  tracerProvider: new BasicTracerProvider({
    spanProcessors: [new SimpleSpanProcessor(new InMemorySpanExporter())],
  }),
};
let events = 0;
for (const name of ['state', 'flush', 'logCommit', 'circuit', 'backpressure', 'corruption', 'error'])
  subscribe(`sync_engine:${name}`, () => events++);

async function filled(ports) {
  const engine = new SyncEngine({}, ports);
  await engine.start();
  for (const key of keys) await engine.submit(new SyncItem(key, value));
  return engine;
}
// The first engine of a process is up to a third slower than those after it, with or without telemetry: it is not
// measured. The others take places in an order that favours neither kind.
const first = await filled({});
const engines = [
  ['off', await filled({})],
  ['on', await filled({ telemetry })],
  ['on', await filled({ telemetry: { ...telemetry, attributes: { engine: 'second' } } })],
  ['off', await filled({})],
];

const awaited = (engine) => () =>
  rateOf(OPERATIONS, async () => {
    for (let at = 0; at < OPERATIONS; at++) keep(await engine.get(keys[at % KEYS]));
  });
const synchronous = (engine) => () =>
  rateOf(OPERATIONS * 5, async () => {
    for (let at = 0; at < OPERATIONS * 5; at++) keep(engine.peek(keys[at % KEYS]));
  });

const contenders = { 'get first': awaited(first), 'peek first': synchronous(first) };
for (const [at, [kind, engine]] of engines.entries()) contenders[`get ${kind} ${at}`] = awaited(engine);
for (const [at, [kind, engine]] of engines.entries()) contenders[`peek ${kind} ${at}`] = synchronous(engine);
const rates = await compete(contenders, ROUNDS);

const { resourceMetrics } = await reader.collect();
if (resourceMetrics.scopeMetrics.length === 0 || events === 0) throw new Error('Nothing was observed.');

const mean = (start) => {
  const some = Object.keys(rates).filter((name) => name.startsWith(start));
  return some.reduce((sum, name) => sum + rates[name], 0) / some.length;
};
const rows = ['get', 'peek'].flatMap((read) => {
  const [off, on] = [mean(`${read} off`), mean(`${read} on`)];
  const noise = rates[`${read} off 3`] / rates[`${read} off 0`];
  return [
    { what: `${read}, telemetry off`, rate: off },
    { what: `${read}, telemetry on`, rate: on, ratio: on / off, wanted: 0.95 },
    { what: `${read}, off beside off`, rate: rates[`${read} off 3`], ratio: noise },
  ];
});
report('What telemetry costs', rows);
await Promise.all([first, ...engines.map(([, engine]) => engine)].map((engine) => engine.shutdown()));
process.exit(0);
