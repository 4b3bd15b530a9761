import { expect, test } from 'vitest';
import { CircuitBreaker } from '#engine/resilience/circuit-breaker.js';
import { BackendHealthChecker } from '#engine/resilience/health-checker.js';
import { manualPorts } from '../support/manual-ports.js';

function watched() {
  const { clock } = manualPorts();
  const backend = {
    up: false,
    connects: 0,
    pings: 0,
    answer: async (): Promise<void> => {
      if (!backend.up) throw new Error('refused');
    },
    ping: (): Promise<void> => circuit.call(() => backend.answer()),
  };
  const circuit: CircuitBreaker = new CircuitBreaker('db', undefined, {
    clock,
    changed: (state) => checker.circuitChanged(state),
  });
  const probed = {
    connect: () => {
      backend.connects++;
      return checker.connect(() => backend.answer());
    },
    ping: () => {
      backend.pings++;
      return backend.ping();
    },
  };
  const checker: BackendHealthChecker = new BackendHealthChecker(circuit, probed, {
    clock,
    scheduler: clock,
  });
  return { clock, backend, circuit, checker };
}

test('while the breaker is open it probes at once and every second; an answer closes it again', async () => {
  const { clock, backend, circuit, checker } = watched();
  circuit.trip();
  await clock.pass(3500);
  expect(backend.connects).toBe(4);
  expect(checker.health).toMatchObject({ connected: false, circuit: 'open', lastError: 'refused' });
  backend.up = true;
  await clock.pass(1000);
  expect(checker.health).toEqual({ connected: true, circuit: 'closed', latencyMs: 0 });
  expect(backend.pings).toBe(2);
  await clock.pass(10_000);
  expect(backend.connects).toBe(5);
});

test('stopped, it asks nothing and keeps nothing alive', async () => {
  const { clock, backend, circuit, checker } = watched();
  circuit.trip();
  await clock.pass(0);
  checker.stop();
  await clock.pass(10_000);
  expect(backend.connects).toBe(1);
  expect(clock.plannedCount).toBe(0);
  expect(checker.health.connected).toBe(false);
});

test('it tells since when a backend does not answer, until it does', async () => {
  const { clock, checker } = watched();
  expect(checker.health).toEqual({ connected: false, circuit: 'closed' });
  await checker.connect(async () => clock.pass(7));
  expect(checker.health).toEqual({ connected: true, circuit: 'closed', latencyMs: 7 });
  expect(checker.connected).toBe(true);
  const [first, last] = [new Error('first'), new Error('last')];
  checker.failed(first);
  await clock.pass(30);
  checker.failed(last);
  await clock.pass(12);
  expect(checker.lastError).toBe(last);
  expect(checker.health).toMatchObject({ lastError: 'last', failingForMs: 42 });
  checker.answered(3);
  expect(checker.health).toEqual({ connected: true, circuit: 'closed', latencyMs: 3, lastError: 'last' });
  await checker.connect(async () => {});
  expect(checker.lastError).toBeUndefined();
});

test('stopped before anything was asked, it hears nothing more and plans nothing', async () => {
  const { clock, backend, circuit, checker } = watched();
  checker.stop();
  checker.failed(new Error('late'));
  circuit.trip();
  expect(clock.plannedCount).toBe(0);
  await clock.pass(5000);
  expect(backend.connects).toBe(0);
  expect(checker.health).toEqual({ connected: false, circuit: 'open' });
});

test('stopped during a probe, it does not ask again', async () => {
  const { clock, backend, circuit, checker } = watched();
  let refuse = (_: Error): void => {};
  backend.answer = () =>
    new Promise((_, reject) => {
      refuse = reject;
    });
  circuit.trip();
  await clock.pass(0);
  expect(backend.connects).toBe(1);
  checker.stop();
  refuse(new Error('too late'));
  await clock.pass(10_000);
  expect(backend.connects).toBe(1);
  expect(clock.plannedCount).toBe(0);
  expect(checker.lastError).toBeUndefined();
});

test('a probe that hangs is the only one, even where the breaker opens once more', async () => {
  const { clock, backend, circuit } = watched();
  backend.answer = () => new Promise(() => {});
  circuit.trip();
  await clock.pass(0);
  circuit.probed();
  circuit.failed();
  expect(circuit.state).toBe('open');
  await clock.pass(5000);
  expect(backend.connects).toBe(1);
});

test('nothing is probed for a breaker that is open no more, nor for one that closes', async () => {
  const { clock, backend, circuit } = watched();
  circuit.trip();
  circuit.probed();
  await clock.pass(5000);
  circuit.succeeded();
  circuit.succeeded();
  expect(circuit.state).toBe('closed');
  expect(clock.plannedCount).toBe(0);
  expect(backend.connects).toBe(0);
});

test('a backend that connects but answers nothing is asked once, not without end', async () => {
  const { clock, backend, circuit } = watched();
  let pings = 0;
  backend.up = true;
  backend.ping = async () => {
    pings++;
    throw new Error('no answer');
  };
  circuit.trip();
  await clock.pass(5000);
  expect(pings).toBe(1);
  expect(circuit.state).toBe('half-open');
});

test('probes do not keep a process alive', async () => {
  const { clock } = manualPorts();
  const kept: (boolean | undefined)[] = [];
  const scheduler = {
    after: (ms: number, run: () => void, keepsAlive?: boolean) => {
      kept.push(keepsAlive);
      return clock.after(ms, run);
    },
    soon: (run: () => void) => clock.soon(run),
  };
  const backend = { connect: async () => Promise.reject(new Error('refused')), ping: async () => {} };
  const circuit: CircuitBreaker = new CircuitBreaker('db', undefined, {
    clock,
    changed: (state) => checker.circuitChanged(state),
  });
  const checker: BackendHealthChecker = new BackendHealthChecker(circuit, backend, { clock, scheduler });
  circuit.trip();
  await clock.pass(1000);
  expect(kept).toEqual([false, false, false]);
});
