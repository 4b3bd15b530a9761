/** How long a cached copy lives. */
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const TTL_MS_MAX = 3650 * DAY_MS;
/** Up to here `from` takes the nearest of the standard spans. */
const SNAP_MS_MAX = 10 * DAY_MS;

/** A span of one second to ten years. Few different ones make copies that can be handled together. */
export class CacheTtl {
  static readonly Minute = new CacheTtl(MINUTE_MS);
  static readonly Short = new CacheTtl(5 * MINUTE_MS);
  static readonly Medium = new CacheTtl(15 * MINUTE_MS);
  static readonly Hour = new CacheTtl(HOUR_MS);
  static readonly Day = new CacheTtl(DAY_MS);
  static readonly Week = new CacheTtl(7 * DAY_MS);

  /** The span, milliseconds. */
  readonly ms: number;

  private constructor(ms: number) {
    this.ms = ms;
    Object.freeze(this);
  }

  /** Exactly that many seconds. @throws RangeError unless 1 second to ten years. */
  static seconds(seconds: number): CacheTtl {
    return new CacheTtl(checked(seconds * SECOND_MS));
  }

  /** The nearest standard span (the longer one halfway); above ten days exactly `ms`. @throws RangeError as `seconds`. */
  static from(ms: number): CacheTtl {
    checked(ms);
    if (ms > SNAP_MS_MAX) return new CacheTtl(ms);
    let nearest = CacheTtl.Minute;
    for (const one of [CacheTtl.Short, CacheTtl.Medium, CacheTtl.Hour, CacheTtl.Day, CacheTtl.Week]) {
      if (Math.abs(one.ms - ms) <= Math.abs(nearest.ms - ms)) nearest = one;
    }
    return nearest;
  }
}

function checked(ms: number): number {
  if (typeof ms !== 'number' || Number.isNaN(ms)) throw new TypeError('A TTL is made from a number.');
  if (ms < SECOND_MS || ms > TTL_MS_MAX)
    throw new RangeError(`A TTL is 1 second to 3,650 days; got ${ms} ms.`);
  return ms;
}
