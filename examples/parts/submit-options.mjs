/** Where an item goes and how long it lives; a configuration from the environment. */
import { CacheTtl, configFromEnv, OptionsKey, SubmitOptions, SyncEngine, SyncItem } from 'sync-engine';

const config = configFromEnv({ SYNC_ENGINE_L1_MAX_BYTES: '64 MiB', SYNC_ENGINE_SUBMIT_TIMEOUT_MS: '2000' });
console.log(config.l1MaxBytes, config.submitTimeoutMs); // 67108864 2000

console.log(CacheTtl.Hour.ms, CacheTtl.from(50 * 60_000) === CacheTtl.Hour); // 3600000 true
const minute = SubmitOptions.cache(CacheTtl.Minute);
console.log(OptionsKey.of(minute) === OptionsKey.of({ sql: false, redisTtl: CacheTtl.seconds(60) })); // true

const engine = new SyncEngine(config);
await engine.start();
await engine.submit(new SyncItem('session.7', 'ada').withOptions(minute));
console.log((await engine.get('session.7'))?.text()); // ada
engine.updateConfig({ l1MaxBytes: 32 * 2 ** 20 });
console.log(engine.l1Stats().bytesMax); // 33554432
await engine.shutdown();
