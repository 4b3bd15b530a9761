/**
 * Keeps what one engine holds in step with an archive that others write too: reads the change log behind its own
 * position, tells of every change, and knows until when that counts.
 *
 * Invariant: while `current`, every transaction that was committed `leaseMs` ago or earlier has been told of. The time
 * counts from when the question was sent, on the monotonic clock, so neither a slow answer, nor a paused process, nor a
 * wall clock that jumps makes the lease longer. What is told changes memory and filter before the lease is extended.
 *
 *   look ─► changes since the position? ─► tell of each ─► position moves on ─┬─► at the end: lease from when it was sent
 *                      ▲                                                      └─► more: ask again
 *                      └──────────────────────────────────────────────────────────────────┘
 */
import type { Clock, Scheduler, Timer } from '../ports/ports.js';
import type { ChangeBatch, ChangeHead, ChangePage } from '../storage/archive-store.js';

const CHANGES_A_LOOK = 5000;
/** Longest that a read waits for a look. */
const WAIT_MS = 50;

export interface FollowedArchive {
  /** Whether a question would be asked now. */
  readonly available: boolean;
  look(from: ChangeHead, limit: number): Promise<ChangePage>;
}

export interface FollowerEvents {
  /** Somebody committed a transaction, perhaps we. In order, each once. */
  changed(batch: ChangeBatch): void;
  /** Transactions are not known any more, or the archive is a restored copy: anything may have changed. */
  missed(gap: 'trimmed' | 'foreign', head: ChangeHead): void;
}

export interface FollowerParts {
  readonly config: { readonly coherenceLeaseMs: number };
  readonly archive: FollowedArchive;
  /** Whether others write too, so that it has to be looked again and again. */
  readonly polls: boolean;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly events: FollowerEvents;
}

export class ChangeFollower {
  readonly #parts: FollowerParts;
  #position: ChangeHead | undefined;
  #sentAtMs = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | undefined;
  #waiting: Promise<void> | undefined;
  /** The look under way has kept a read waiting for long enough. */
  #overdue = false;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(parts: FollowerParts) {
    this.#parts = parts;
  }

  /** Whether what memory and filter hold may be called current. */
  get current(): boolean {
    return this.#parts.clock.monotonic() - this.#sentAtMs < this.#parts.config.coherenceLeaseMs;
  }

  /** When the last look that reached the end was sent; monotonic. */
  get lookedAtMs(): number {
    return this.#sentAtMs;
  }

  /** How old the newest knowledge of the change log is, milliseconds; `undefined` before the first look. */
  get ageMs(): number | undefined {
    const age = this.#parts.clock.monotonic() - this.#sentAtMs;
    return Number.isFinite(age) ? age : undefined;
  }

  /** The archive was connected. The first time memory is empty, so what happened before does not matter. */
  connected(head: ChangeHead): void {
    this.#position ??= head;
    void this.look();
    if (this.#timer === undefined && this.#parts.polls) this.#renewLater();
  }

  /**
   * A transaction of this engine: where nothing lies between it and what is known, it need not be read.
   * @param changed Whether it added the position at which the log ends.
   */
  committed({ position, chain }: ChangeHead, changed: boolean): void {
    const known = this.#position?.position ?? -1;
    if (changed && position === known + 1) this.#position = { position, chain };
    else if (position > known) void this.look();
  }

  /** Reads what is new, or joins who does. Never rejects. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
      this.#overdue = false;
    });
    return this.#looking;
  }

  /** A look that begins after the call. Never rejects. */
  async lookAnew(): Promise<void> {
    await this.#looking;
    await this.look();
  }

  /** For a read whose lease has lapsed: one look, but no long wait. Whether it is current then. */
  async renewed(): Promise<boolean> {
    if (this.current) return true;
    if (!this.#parts.archive.available || this.#overdue) return false;
    this.#waiting ??= this.#wait().finally(() => {
      this.#waiting = undefined;
    });
    await this.#waiting;
    return this.current;
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  async #wait(): Promise<void> {
    let timer: Timer | undefined;
    const enough = new Promise<void>((resolve) => {
      timer = this.#parts.scheduler.after(WAIT_MS, () => {
        this.#overdue = this.#looking !== undefined;
        resolve();
      });
    });
    await Promise.race([this.look(), enough]);
    timer?.cancel();
  }

  async #look(): Promise<void> {
    const { archive, clock, events } = this.#parts;
    try {
      while (this.#position !== undefined && archive.available && !this.#stopped) {
        const sentAtMs = clock.monotonic();
        const { batches, head, gap } = await archive.look(this.#position, CHANGES_A_LOOK);
        if (this.#stopped) return;
        if (gap !== 'none') {
          events.missed(gap, head);
          this.#position = head;
        }
        for (const batch of batches) {
          // What was committed from here meanwhile is known already.
          if (batch.position <= this.#position.position) continue;
          events.changed(batch);
          this.#position = { position: batch.position, chain: batch.chain };
        }
        if (this.#position.position >= head.position) {
          this.#sentAtMs = sentAtMs;
          return;
        }
        // An answer without a next step would be asked for again and again.
        if (batches.length === 0) return;
      }
    } catch {
      // The archive's guard has taken note; the lease runs out, and that is what readers see.
    }
  }

  #renewLater(): void {
    if (this.#stopped) return;
    this.#timer = this.#parts.scheduler.after(
      Math.max(1, this.#parts.config.coherenceLeaseMs / 2),
      () => {
        void this.look();
        this.#renewLater();
      },
      false,
    );
  }
}
