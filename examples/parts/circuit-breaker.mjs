/** A breaker in front of a backend of your own, and a checker that notices when it answers again. */
import { setTimeout as pause } from 'node:timers/promises';
import { BackendHealthChecker, CIRCUIT_PRESETS, CircuitBreaker } from 'sync-engine';

const service = { up: false, ask: async () => (service.up ? 42 : Promise.reject(new Error('refused'))) };

const circuit = new CircuitBreaker('service', CIRCUIT_PRESETS.aggressive, {
  changed: (state) => checker.circuitChanged(state),
});
const backend = { connect: () => checker.connect(service.ask), ping: () => circuit.call(service.ask) };
const checker = new BackendHealthChecker(circuit, backend, { intervalMs: 10 });

for (let call = 0; call < 3; call++) await circuit.call(service.ask).catch(() => {});
const error = await circuit.call(service.ask).catch((refused) => refused);
console.log(error.code, error.retryable, circuit.stats.rejected); // CIRCUIT_OPEN true 1

// The checker finds out by itself.
service.up = true;
while (circuit.state !== 'closed') await pause(5);
console.log(await circuit.call(service.ask), checker.health.connected); // 42 true
