/** Engines, directories and files that clean up after the test that made them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import {
  type EvictionPolicy,
  SyncEngine,
  type SyncEngineConfig,
  type SyncEngineError,
} from '#engine/index.js';
import type { CacheStore } from '#engine/storage/cache-store.js';
import { FakeArchive } from './fake-archive.js';
import { FakeRecordStore } from './fake-record-store.js';
import { type ManualPorts, manualPorts } from './manual-ports.js';

export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'sync-engine-test-'));
  onTestFinished(() => removed(directory));
  return directory;
}

/** A thread that a shutdown gave up at its deadline may add a file while the others are removed. */
async function removed(directory: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      rmSync(directory, { recursive: true, force: true });
      return;
    } catch (error) {
      if (attempt === 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** A started engine on real files in `directory`. */
export async function fileEngine(directory: string, config: SyncEngineConfig = {}): Promise<SyncEngine> {
  const engine = new SyncEngine({ ...fileConfig(directory), ...config });
  onTestFinished(async () => {
    await engine.shutdown({ deadlineMs: 5000 });
  });
  await engine.start();
  return engine;
}

export function fileConfig(directory: string): SyncEngineConfig {
  return { sqlUrl: `sqlite:${join(directory, 'archive.db')}`, walPath: join(directory, 'log.db') };
}

export interface Fakes {
  readonly engine: SyncEngine;
  readonly archive: FakeArchive;
  readonly store: FakeRecordStore;
  readonly ports: ManualPorts;
}

export interface FakeOptions {
  readonly archive?: FakeArchive;
  readonly store?: FakeRecordStore;
  readonly ports?: ManualPorts & { readonly evictionPolicy?: EvictionPolicy; readonly cache?: CacheStore };
  readonly withLog?: boolean;
}

/** An engine over stores in memory and time that stands still, not yet started. */
export function fakeEngine(config: SyncEngineConfig = {}, options: FakeOptions = {}): Fakes {
  const archive = options.archive ?? new FakeArchive();
  const store = options.store ?? new FakeRecordStore();
  const ports = options.ports ?? manualPorts();
  const stores = options.withLog === false ? { archive } : { archive, recordStore: store };
  const engine = new SyncEngine({ nodeId: 'test', ...config }, { ...ports, ...stores });
  return { engine, archive, store, ports };
}

export async function startedFakes(config: SyncEngineConfig = {}, options: FakeOptions = {}): Promise<Fakes> {
  const fakes = fakeEngine(config, options);
  await fakes.engine.start();
  return fakes;
}

/** The error that `work` rejects with; fails where it does not. */
export async function rejection(work: Promise<unknown>): Promise<SyncEngineError> {
  try {
    await work;
  } catch (error) {
    return error as SyncEngineError;
  }
  throw new Error('It did not reject.');
}
