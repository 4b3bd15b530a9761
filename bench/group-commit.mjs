/**
 * The log that one would write by hand, against which ours is measured: the main thread gathers records while
 * one commit is under way, posts them in one packed buffer to a worker, and acknowledges the group when it is
 * in SQLite with `synchronous=FULL`. No checksums, no memory of what was written, no archive behind, nothing
 * is ever released.
 */
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import Database from 'better-sqlite3';

export class GroupCommit {
  #worker;
  #gathered = [];
  #underWay;

  constructor(path) {
    this.#worker = new Worker(fileURLToPath(import.meta.url), { workerData: path });
    this.#worker.on('message', () => this.#committed());
  }

  append(id, content) {
    return new Promise((resolve) => {
      this.#gathered.push({ id, content, resolve });
      if (this.#gathered.length === 1 && this.#underWay === undefined) queueMicrotask(() => this.#send());
    });
  }

  close() {
    return this.#worker.terminate();
  }

  #send() {
    const group = this.#gathered;
    this.#gathered = [];
    let room = 0;
    for (const { id, content } of group) room += 8 + id.length * 3 + content.length;
    const pack = Buffer.allocUnsafeSlow(room);
    let at = 0;
    for (const { id, content } of group) {
      const idBytes = pack.write(id, at + 8);
      pack.writeUInt32LE(idBytes + content.length, at);
      pack.writeUInt32LE(idBytes, at + 4);
      pack.set(content, at + 8 + idBytes);
      at += 8 + idBytes + content.length;
    }
    this.#underWay = group;
    this.#worker.postMessage(pack.subarray(0, at), [pack.buffer]);
  }

  #committed() {
    const group = this.#underWay;
    this.#underWay = undefined;
    for (const { resolve } of group) resolve();
    if (this.#gathered.length > 0) this.#send();
  }
}

if (!isMainThread && typeof workerData === 'string') {
  const database = new Database(workerData);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.exec('CREATE TABLE records (position INTEGER PRIMARY KEY, record BLOB NOT NULL)');
  const insert = database.prepare('INSERT INTO records (record) VALUES (?)');
  const commit = database.transaction((pack) => {
    for (let at = 0; at < pack.length; ) {
      const end = at + 8 + pack.readUInt32LE(at);
      insert.run(pack.subarray(at + 4, end));
      at = end;
    }
  });
  parentPort.on('message', (bytes) => {
    commit(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    parentPort.postMessage(undefined);
  });
}
