import { expect, test } from 'vitest';
import { configFromEnv, SyncEngine, SyncEngineError } from '#engine/index.js';

function problemsOf(env: Record<string, string>): readonly string[] {
  try {
    configFromEnv(env);
  } catch (error) {
    expect(error).toBeInstanceOf(SyncEngineError);
    return (error as SyncEngineError).context.problems ?? [];
  }
  throw new Error('It was accepted.');
}

test('keys are read from SYNC_ENGINE_*, units and flags included; others are left alone', () => {
  const config = configFromEnv({
    SYNC_ENGINE_SQL_URL: 'sqlite:a.db',
    SYNC_ENGINE_WAL_PATH: 'a.wal',
    SYNC_ENGINE_L1_MAX_BYTES: '64 MiB',
    SYNC_ENGINE_BATCH_FLUSH_BYTES: '1.5kib',
    SYNC_ENGINE_BATCH_FLUSH_MS: '20',
    SYNC_ENGINE_BACKPRESSURE_WARN: '0.6',
    SYNC_ENGINE_MERKLE_ENABLED: 'false',
    SYNC_ENGINE_NODE_ID: '',
    PATH: '/bin',
  });
  expect(config).toEqual({
    sqlUrl: 'sqlite:a.db',
    walPath: 'a.wal',
    l1MaxBytes: 64 * 2 ** 20,
    batchFlushBytes: 1536,
    batchFlushMs: 20,
    backpressureWarn: 0.6,
    merkleEnabled: false,
  });
  expect(() => new SyncEngine(config)).not.toThrow();
});

test('every mistake is listed, with the name of the variable and without values', () => {
  const problems = problemsOf({
    SYNC_ENGINE_L1_MAXBYTES: '5',
    SYNC_ENGINE_BATCH_FLUSH_MS: '5s',
    SYNC_ENGINE_BATCH_FLUSH_COUNT: '5KiB',
    SYNC_ENGINE_START_DEGRADED: 'secret',
  });
  expect(problems).toEqual([
    'unknown variable SYNC_ENGINE_L1_MAXBYTES (did you mean SYNC_ENGINE_L1_MAX_BYTES?)',
    'SYNC_ENGINE_BATCH_FLUSH_MS must be a number; bytes may end in KiB, MiB or GiB',
    'SYNC_ENGINE_BATCH_FLUSH_COUNT is no number of bytes and takes no unit',
    'SYNC_ENGINE_START_DEGRADED must be true or false',
  ]);
});
