/**
 * Another engine on the archive, in a process of its own: answers what it is asked on standard input, a line each.
 *
 *   get <id>, fresh <id>   the text, and whether it is current
 *   write <id>             writes it, stored
 *   storm <writes>         writes and deletes a few ids at random, all stored
 *   race <writes>          as storm, reading each id back at once: how many reads were older than the own write
 *   same                   how many of those ids are not as SQL has them
 *   digest                 the root, and every item it can see
 *
 * Arguments: URL of SQL, and of Redis, if it has that.
 */
import { createInterface } from 'node:readline';
import { SyncEngine, SyncItem } from '../../dist/index.js';

const [, , sqlUrl, redisUrl] = process.argv;
const engine = new SyncEngine({
  sqlUrl,
  ...(redisUrl === undefined ? undefined : { redisUrl, redisTimeoutMs: 500, l1MaxBytes: 64 * 1024 }),
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
  race: async (writes) => {
    let old = 0;
    const one = async (at) => {
      const id = `r.${Math.floor(Math.random() * 40)}`;
      const text = `${process.pid} ${at}`.padEnd(900);
      const { version } =
        at % 5 === 0
          ? await engine.delete(id, { ack: 'stored' })
          : await engine.submit(new SyncItem(id, text), { ack: 'stored' });
      for (let more = 0; more < 3; more++) {
        const item = await engine.get(`r.${Math.floor(Math.random() * 40)}`);
        if (item !== undefined && !item.text().endsWith(' ')) old++;
      }
      const item = await engine.get(id);
      // A delete of somebody else may have come between.
      if (item !== undefined && item.version < version) old++;
    };
    for (let at = 0; at < Number(writes); at += 20)
      await Promise.all(Array.from({ length: 20 }, (_, more) => one(at + more)));
    return `${old} old`;
  },
  same: async () => {
    let different = 0;
    for (let at = 0; at < 40; at++) {
      const item = await engine.get(`r.${at}`);
      if (item?.version !== (await engine.get(`r.${at}`, { fresh: true }))?.version) different++;
    }
    return `${different} different`;
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
