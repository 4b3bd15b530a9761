/**
 * Ids whose newest acknowledged write was damaged in the log. Until something newer is stored, a read of such
 * an id is refused: what the archive holds is older than what was acknowledged.
 */
import { SyncEngineError } from '../base/errors.js';

const NONE: readonly number[] = [];

export class DamagedIds {
  readonly #positions = new Map<string, number[]>();
  /** Positions of records of which not even the id can be told. */
  readonly #unknown = new Set<number>();

  /** Damaged records, those included whose id cannot be told. */
  get count(): number {
    return this.#positions.size + this.#unknown.size;
  }

  add(id: string | undefined, position: number): void {
    if (id === undefined) {
      this.#unknown.add(position);
      return;
    }
    const positions = this.#positions.get(id);
    if (positions === undefined) this.#positions.set(id, [position]);
    else if (!positions.includes(position)) positions.push(position);
  }

  has(id: string): boolean {
    return this.#positions.has(id);
  }

  /** @throws `CORRUPTION` for a damaged id. */
  check(id: string): void {
    if (this.#positions.size === 0 || !this.#positions.has(id)) return;
    throw damagedRecord(id);
  }

  /** The errors of the damaged ids that begin with `prefix`. */
  *within(prefix: string): Generator<SyncEngineError> {
    for (const id of this.#positions.keys()) if (id.startsWith(prefix)) yield damagedRecord(id);
  }

  /** Something newer is stored: returns the positions that the log may now forget. */
  resolve(id: string): readonly number[] {
    if (this.#positions.size === 0) return NONE;
    const positions = this.#positions.get(id);
    if (positions === undefined) return NONE;
    this.#positions.delete(id);
    return positions;
  }
}

function damagedRecord(id: string): SyncEngineError {
  return new SyncEngineError(
    'CORRUPTION',
    'The newest write of this id was acknowledged, but its record in the log is damaged. Submit or delete the id again to replace it; the damaged record stays in the log until then.',
    { context: { tier: 'wal', id } },
  );
}
