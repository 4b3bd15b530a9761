import { expect, test } from 'vitest';
import { CircuitBreaker } from '#engine/resilience/circuit-breaker.js';
import { manualPorts } from '../support/manual-ports.js';

function breaker() {
  const { clock } = manualPorts();
  const states: string[] = [];
  const config = { failureThreshold: 3, successThreshold: 2, recoveryMs: 1000 };
  return { clock, states, circuit: new CircuitBreaker('sql', config, clock, (state) => states.push(state)) };
}

test('opens after failures in a row, not after as many in all', () => {
  const { circuit } = breaker();
  for (let round = 0; round < 5; round++) {
    circuit.failed();
    circuit.failed();
    circuit.succeeded();
  }
  expect(circuit.allows()).toBe(true);
  for (let failure = 0; failure < 3; failure++) circuit.failed();
  expect(circuit.state).toBe('open');
  expect(circuit.allows()).toBe(false);
});

test('a probe half-opens it at once, successes close it, one failure opens it again', () => {
  const { circuit, states } = breaker();
  circuit.trip();
  circuit.probed();
  expect(circuit.allows()).toBe(true);
  circuit.failed();
  expect(circuit.state).toBe('open');
  circuit.probed();
  circuit.succeeded();
  expect(circuit.state).toBe('half-open');
  circuit.succeeded();
  expect(states).toEqual(['open', 'half-open', 'open', 'half-open', 'closed']);
});

test('without a probe it half-opens after recoveryMs', async () => {
  const { circuit, clock } = breaker();
  circuit.trip();
  await clock.pass(999);
  expect(circuit.allows()).toBe(false);
  await clock.pass(1);
  expect(circuit.allows()).toBe(true);
  expect(circuit.state).toBe('half-open');
});
