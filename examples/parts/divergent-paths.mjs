/** Two engines, and where they differ. Only branches whose hashes differ are asked for. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SyncEngine, SyncItem } from 'sync-engine';

const directory = mkdtempSync(join(tmpdir(), 'divergent-'));

// Both sides make their digests with one key: 64 hex digits, of `openssl rand -hex 32` for example.
const clusterKey = randomBytes(32).toString('hex');
const here = new SyncEngine({ sqlUrl: `sqlite:${join(directory, 'here.db')}`, clusterKey });
const there = new SyncEngine({ sqlUrl: `sqlite:${join(directory, 'there.db')}`, clusterKey });
await Promise.all([here.start(), there.start()]);

await here.submit(new SyncItem('uk.nhs.1', 'only here'));
await there.submit(new SyncItem('uk.gov.2', 'only there'));
// Digests speak of what SQL has committed.
await Promise.all([here.flush(), there.flush()]);

const { localOnly, remoteOnly, divergentPaths } = await here.findDivergentPaths(there.merkle);
console.log(localOnly.join(), remoteOnly.join()); // uk.nhs.1 uk.gov.2
console.log(divergentPaths.toSorted().join(' ')); // uk.gov uk.nhs

for await (const { id, side } of here.drillDownDivergence(there.merkle, 'uk.nhs')) {
  console.log(id, side); // uk.nhs.1 local
}
await Promise.all([here.shutdown(), there.shutdown()]);
rmSync(directory, { recursive: true });
