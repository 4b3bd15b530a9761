import { expect, test } from 'vitest';
import { BackendCircuits, CIRCUIT_PRESETS, CircuitBreaker } from '#engine/resilience/circuit-breaker.js';
import { manualPorts } from '../support/manual-ports.js';

function breaker() {
  const { clock } = manualPorts();
  const states: string[] = [];
  const config = { failureThreshold: 3, successThreshold: 2, recoveryMs: 1000 };
  return {
    clock,
    states,
    circuit: new CircuitBreaker('sql', config, { clock, changed: (state) => states.push(state) }),
  };
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

test('a call goes through it: failures open it, and then nothing is called', async () => {
  const { circuit, clock } = breaker();
  const fail = () => Promise.reject(new Error('away'));
  for (let failure = 0; failure < 3; failure++) await expect(circuit.call(fail)).rejects.toThrow('away');
  let called = false;
  const refused = circuit.call(async () => {
    called = true;
  });
  await expect(refused).rejects.toMatchObject({
    code: 'CIRCUIT_OPEN',
    retryable: true,
    outcome: 'not-applied',
  });
  expect(called).toBe(false);
  expect(circuit.stats).toEqual({ successes: 0, failures: 3, rejected: 1, timesOpened: 1 });
  await clock.pass(1000);
  expect(await circuit.call(async () => 5)).toBe(5);
  await circuit.call(async () => 6);
  expect(circuit.state).toBe('closed');
});

test('a call under way is told when it opens', async () => {
  const { circuit } = breaker();
  let signal: AbortSignal | undefined;
  const slow = circuit.call((given) => {
    signal = given;
    return new Promise<void>((resolve) => given.addEventListener('abort', () => resolve()));
  });
  expect(signal?.aborted).toBe(false);
  circuit.trip();
  await slow;
  expect(signal?.aborted).toBe(true);
});

test('presets, and a breaker for each backend', () => {
  expect(CIRCUIT_PRESETS.default).toEqual({ failureThreshold: 5, successThreshold: 2, recoveryMs: 30_000 });
  expect(CIRCUIT_PRESETS.aggressive).toEqual({
    failureThreshold: 3,
    successThreshold: 3,
    recoveryMs: 60_000,
  });
  expect(CIRCUIT_PRESETS.lenient).toEqual({ failureThreshold: 10, successThreshold: 1, recoveryMs: 15_000 });
  const changes: string[] = [];
  const circuits = new BackendCircuits(
    { sql: CIRCUIT_PRESETS.aggressive },
    { changed: (backend, state) => changes.push(`${backend} ${state}`) },
  );
  for (let failure = 0; failure < 3; failure++) {
    circuits.sql.failed();
    circuits.redis.failed();
  }
  expect([circuits.sql.state, circuits.redis.state]).toEqual(['open', 'closed']);
  expect(changes).toEqual(['sql open']);
});

test('what was under way when it opened neither closes it nor keeps it open for longer', async () => {
  const { circuit, clock, states } = breaker();
  circuit.trip();
  circuit.succeeded();
  circuit.succeeded();
  expect(circuit.state).toBe('open');
  await clock.pass(900);
  for (let failure = 0; failure < 3; failure++) circuit.failed();
  await clock.pass(100);
  expect(circuit.allows()).toBe(true);
  expect(states).toEqual(['open', 'half-open']);
});

test('a probe of a closed breaker changes nothing', () => {
  const { circuit, states } = breaker();
  circuit.probed();
  expect(circuit.state).toBe('closed');
  expect(states).toEqual([]);
});

test('tripped while it is open it waits anew, and has opened once', async () => {
  const { circuit, clock, states } = breaker();
  circuit.trip();
  await clock.pass(900);
  circuit.trip();
  await clock.pass(900);
  expect(circuit.allows()).toBe(false);
  await clock.pass(100);
  expect(circuit.allows()).toBe(true);
  expect(states).toEqual(['open', 'half-open']);
  expect(circuit.stats.timesOpened).toBe(1);
});

test('a call under way goes on when it closes, and is counted', async () => {
  const { circuit } = breaker();
  circuit.trip();
  circuit.probed();
  let signal: AbortSignal | undefined;
  let answer = (): void => {};
  const slow = circuit.call((given) => {
    signal = given;
    return new Promise<void>((resolve) => {
      answer = resolve;
    });
  });
  circuit.succeeded();
  circuit.succeeded();
  expect(circuit.state).toBe('closed');
  expect(signal?.aborted).toBe(false);
  answer();
  await slow;
  expect(circuit.stats).toEqual({ successes: 3, failures: 0, rejected: 0, timesOpened: 1 });
});

test('both breakers run on the given clock, under their own names, with nobody listening', async () => {
  const { clock } = manualPorts();
  const { redis, sql } = new BackendCircuits({}, { clock });
  expect([redis.name, sql.name]).toEqual(['redis', 'sql']);
  for (const circuit of [redis, sql]) {
    circuit.trip();
    await clock.pass(CIRCUIT_PRESETS.default.recoveryMs - 1);
    expect(circuit.allows()).toBe(false);
    await clock.pass(1);
    expect(circuit.allows()).toBe(true);
  }
});
