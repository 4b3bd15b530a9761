// @ts-check
/** A TCP proxy between an engine and a server, which can be told to treat its connections badly. */
import { createConnection, createServer } from 'node:net';

const HOST = '127.0.0.1';
const SLOW_MS = 100;

/**
 * @typedef {object} Pair
 * @property {import('node:net').Socket} near The engine's side.
 * @property {import('node:net').Socket} far The server's side.
 * @property {boolean} silent Nothing passes any more, and nobody is told.
 * @property {boolean} mute What the server answers is not passed on; then the connection breaks.
 */

export class FaultyProxy {
  /** @type {number} */
  port = 0;
  /** Connections that were cut, silenced or slowed; replies that were lost. */
  harmed = 0;
  #target;
  /** @type {import('node:net').Server} */
  #server;
  /** @type {Set<Pair>} */
  #pairs = new Set();
  #slow = false;
  #refuses = false;
  /** @type {string | undefined} A request that contains it gets no reply. */
  #unanswered;

  /** @param {number} target Port of the server. */
  constructor(target) {
    this.#target = target;
    this.#server = createServer((near) => this.#join(near));
    this.#server.unref();
  }

  async listen() {
    await new Promise((resolve) => this.#server.listen(0, HOST, () => resolve(undefined)));
    const address = this.#server.address();
    if (typeof address === 'object' && address !== null) this.port = address.port;
    return this;
  }

  /** Every connection breaks, by RST. New ones are taken. */
  reset() {
    for (const pair of this.#pairs) {
      this.harmed++;
      pair.near.resetAndDestroy();
      pair.far.destroy();
    }
  }

  /** Present connections stay, but nothing passes; nobody is told. New ones are taken. */
  silence() {
    for (const pair of this.#pairs) {
      this.harmed++;
      pair.silent = true;
    }
  }

  /** @param {boolean} slow From now on one byte each 100 ms passes, on every connection. */
  setSlow(slow) {
    this.#slow = slow;
  }

  /** @param {boolean} refuses New connections are refused, present ones break. */
  setRefusing(refuses) {
    this.#refuses = refuses;
    if (refuses) this.reset();
  }

  /** @param {string | undefined} word A request that contains it is carried out, and its reply lost with the connection. */
  loseReplyTo(word) {
    this.#unanswered = word;
  }

  close() {
    this.#server.close();
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
  }

  /** @param {import('node:net').Socket} near */
  #join(near) {
    if (this.#refuses) {
      this.harmed++;
      near.resetAndDestroy();
      return;
    }
    const far = createConnection({ port: this.#target, host: HOST });
    near.setNoDelay(true);
    far.setNoDelay(true);
    const pair = { near, far, silent: false, mute: false };
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      // Who is not told learns nothing of the other's end either.
      if (pair.silent) return;
      near.destroy();
      far.destroy();
    };
    for (const socket of [near, far]) {
      socket.on('error', () => {});
      socket.on('close', end);
    }
    this.#pass(pair, near, far, (chunk) => {
      if (this.#unanswered !== undefined && chunk.includes(this.#unanswered)) pair.mute = true;
    });
    this.#pass(pair, far, near, () => {
      if (!pair.mute) return;
      this.harmed++;
      near.resetAndDestroy();
      far.destroy();
    });
  }

  /**
   * @param {Pair} pair
   * @param {import('node:net').Socket} from
   * @param {import('node:net').Socket} to
   * @param {(chunk: Buffer) => void} look
   */
  #pass(pair, from, to, look) {
    /** @type {Buffer[]} What waits while it is slow. */
    let waiting = [];
    let trickling = false;
    const trickle = () => {
      if (pair.silent || to.destroyed) return;
      if (!this.#slow) {
        for (const chunk of waiting) to.write(chunk);
        waiting = [];
        trickling = false;
        from.resume();
        return;
      }
      const [first] = waiting;
      if (first !== undefined) {
        to.write(first.subarray(0, 1));
        if (first.length > 1) waiting[0] = first.subarray(1);
        else waiting.shift();
        this.harmed++;
      }
      if (waiting.length === 0) {
        trickling = false;
        from.resume();
      } else setTimeout(trickle, SLOW_MS).unref();
    };
    from.on('data', (chunk) => {
      if (pair.silent) return;
      look(chunk);
      if (to.destroyed) return;
      if (!this.#slow && !trickling) {
        if (!to.write(chunk)) {
          from.pause();
          to.once('drain', () => from.resume());
        }
        return;
      }
      waiting.push(chunk);
      from.pause();
      if (trickling) return;
      trickling = true;
      setTimeout(trickle, SLOW_MS).unref();
    });
  }
}
