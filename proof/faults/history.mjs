// @ts-check
/** What was submitted and what was acknowledged, kept outside the process that may die; and what contradicts it. */

/**
 * @typedef {object} Write
 * @property {string} id
 * @property {string | undefined} text `undefined` for a delete.
 * @property {number} [version]
 */

export class History {
  /** @type {Map<number, Write>} */
  #writes = new Map();
  next = 0;
  acknowledged = 0;

  /**
   * A line of the subject: `s number id text` (text `-`: a delete) before a write, `a number version` when it was
   * acknowledged.
   * @param {string} line
   */
  note(line) {
    const [kind, number, a, b] = line.split(' ');
    if (kind === 's') {
      this.#writes.set(Number(number), { id: String(a), text: b === '-' ? undefined : b });
      this.next = Math.max(this.next, Number(number) + 1);
    } else if (kind === 'a') {
      const write = this.#writes.get(Number(number));
      if (write !== undefined) write.version = Number(a);
      this.acknowledged++;
    }
  }

  /**
   * Compares with what an engine answers whose memory is empty.
   * @param {import('../../packages/engine/dist/index.js').SyncEngine} engine
   * @returns {Promise<string[]>}
   */
  async violations(engine) {
    /** @type {Map<string, Write[]>} */
    const byId = new Map();
    for (const write of this.#writes.values()) {
      const known = byId.get(write.id);
      if (known === undefined) byId.set(write.id, [write]);
      else known.push(write);
    }
    const ids = [...byId.keys()];
    const items = await engine.getMany(ids);
    const found = [];
    for (const [at, id] of ids.entries()) {
      const writes = /** @type {Write[]} */ (byId.get(id));
      const item = items[at];
      let newest;
      for (const write of writes)
        if (write.version !== undefined && write.version > (newest?.version ?? 0)) newest = write;
      const least = newest?.version ?? 0;
      if (item === undefined) {
        const deleted = writes.some((one) => one.text === undefined && (one.version ?? Infinity) >= least);
        if (newest !== undefined && !deleted)
          found.push(`lost: ${id} ${newest.text} was acknowledged, and is missing`);
        continue;
      }
      const text = item.text().split('|')[1] ?? '';
      const source = writes.find((one) => one.text === text);
      if (source === undefined) found.push(`lie: nobody wrote ${text} under ${id}`);
      else if (source.version !== undefined && source.version !== item.version)
        found.push(`lie: ${id} ${text} has another version`);
      else if (Number(item.version) < least)
        found.push(`lost: ${id} is ${text}, older than what was acknowledged`);
    }
    return found;
  }
}
