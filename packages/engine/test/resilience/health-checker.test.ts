import { expect, test } from 'vitest';
import { BackendHealthChecker, CircuitBreaker } from '#engine/index.js';
import { manualPorts } from '../support/manual-ports.js';

function watched() {
  const { clock } = manualPorts();
  const backend = { up: false, connects: 0, pings: 0 };
  const answer = async (): Promise<void> => {
    if (!backend.up) throw new Error('refused');
  };
  const circuit: CircuitBreaker = new CircuitBreaker('db', undefined, {
    clock,
    changed: (state) => checker.circuitChanged(state),
  });
  const probed = {
    connect: () => {
      backend.connects++;
      return checker.connect(answer);
    },
    ping: () => {
      backend.pings++;
      return circuit.call(answer);
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
