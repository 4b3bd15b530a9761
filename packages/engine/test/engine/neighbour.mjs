/**
 * Another engine on the archive, in a process of its own: answers what it is asked on standard input, a line each.
 *
 *   get <id>, fresh <id>   the text, and whether it is current
 *   write <id>             writes it, stored
 *   storm <writes>         writes and deletes a few ids at random, all stored
 *   digest                 the root, and every item it can see
 */
import { createInterface } from 'node:readline';
import { SyncEngine, SyncItem } from '../../dist/index.js';

const engine = new SyncEngine({
  sqlUrl: process.argv[2],
  coherenceLeaseMs: 200,
  batchFlushMs: 2,
  batchFlushCount: 20,
});
await engine.start();

const ANSWERS = {
  get: async (id) => told(await engine.get(id)),
  fresh: async (id) => told(await engine.get(id, { fresh: true })),
  write: async (id) => (await engine.submit(new SyncItem(id, 'theirs'), { ack: 'stored' })).ack,
  storm: async (writes) => {
    const one = async (at) => {
      const id = ['s', 's.a', 's.a.b', 's.b', 't.a', 't'][Math.floor(Math.random() * 6)];
      if (at % 3 === 0) await engine.delete(id, { ack: 'stored' });
      else await engine.submit(new SyncItem(id, `${process.pid} ${at}`), { ack: 'stored' });
    };
    for (let at = 0; at < Number(writes); at += 20)
      await Promise.all(Array.from({ length: 20 }, (_, more) => one(at + more)));
    return 'done';
  },
  digest: async () => {
    await engine.flush();
    // Others may still be at it; a lease later everything is known.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const items = [];
    for await (const item of engine.scanPrefix('')) items.push(`${item.id}=${item.version}`);
    return `${await engine.merkleRoot()} ${items.join()}`;
  },
};

const told = (item) =>
  item === undefined ? 'missing' : `${item.text()} ${item.stale ? 'stale' : 'current'}`;

for await (const line of createInterface({ input: process.stdin })) {
  const [question, argument] = line.split(' ');
  process.stdout.write(`${await ANSWERS[question](argument)}\n`);
}
await engine.shutdown();
