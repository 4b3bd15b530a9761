/**
 * How much of what cannot be evicted there is, in six levels, and what each means for callers.
 *
 *   Normal < warn ≤ Warn < halfway ≤ Throttle < critical ≤ Critical < … ≤ Emergency < … ≤ Shutdown
 */
export type BackpressureName = 'Normal' | 'Warn' | 'Throttle' | 'Critical' | 'Emergency' | 'Shutdown';

/** Where the levels begin. */
export interface BackpressureThresholds {
  /** Share at which Warn begins; default 0.7. */
  readonly warn?: number;
  /** Share at which Critical begins; default 0.9. */
  readonly critical?: number;
}

interface Properties {
  readonly rank: number;
  readonly acceptsWrites: boolean;
  readonly evictionMultiplier: number;
  readonly httpStatus?: number;
  readonly retryAfterMs?: number;
  readonly description: string;
}

/** One of the six levels; there is one object of each, so they can be compared with `===`. */
export class BackpressureLevel {
  static readonly Normal = new BackpressureLevel('Normal', {
    rank: 0,
    acceptsWrites: true,
    evictionMultiplier: 1,
    description: 'There is room.',
  });
  static readonly Warn = new BackpressureLevel('Warn', {
    rank: 1,
    acceptsWrites: true,
    evictionMultiplier: 1.5,
    description: 'Writes come faster than SQL takes them; all are taken.',
  });
  static readonly Throttle = new BackpressureLevel('Throttle', {
    rank: 2,
    acceptsWrites: true,
    evictionMultiplier: 2,
    httpStatus: 429,
    retryAfterMs: 100,
    description: 'Writes are taken, and their writers held until SQL has made room.',
  });
  static readonly Critical = new BackpressureLevel('Critical', {
    rank: 3,
    acceptsWrites: false,
    evictionMultiplier: 3,
    httpStatus: 429,
    retryAfterMs: 500,
    description: 'Writes are refused until SQL has taken more of what waits. Reads go on.',
  });
  static readonly Emergency = new BackpressureLevel('Emergency', {
    rank: 4,
    acceptsWrites: false,
    evictionMultiplier: 5,
    httpStatus: 503,
    retryAfterMs: 1000,
    description: 'Writes are refused, and memory holds only what is not yet stored. Reads go to SQL.',
  });
  static readonly Shutdown = new BackpressureLevel('Shutdown', {
    rank: 5,
    acceptsWrites: false,
    evictionMultiplier: 10,
    httpStatus: 503,
    retryAfterMs: 5000,
    description: 'Nothing more fits. Writes are refused, and memory holds only what is not yet stored.',
  });

  readonly name: BackpressureName;
  /** 0 for Normal to 5 for Shutdown. */
  readonly rank: number;
  /** Whether a write may be taken; at Throttle after a wait. */
  readonly acceptsWrites: boolean;
  /** Reads are answered at every level. */
  readonly acceptsReads = true;
  /** How many times faster than at Normal clean entries should go. */
  readonly evictionMultiplier: number;
  /** What a server should answer to a refused write, where writes can be refused. */
  readonly httpStatus: number | undefined;
  /** When a refused writer should come again, milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** A sentence for an operator. */
  readonly description: string;

  private constructor(name: BackpressureName, properties: Properties) {
    this.name = name;
    this.rank = properties.rank;
    this.acceptsWrites = properties.acceptsWrites;
    this.evictionMultiplier = properties.evictionMultiplier;
    this.httpStatus = properties.httpStatus;
    this.retryAfterMs = properties.retryAfterMs;
    this.description = properties.description;
    Object.freeze(this);
  }

  /**
   * The level at a ratio of what cannot be evicted to what there is room for. Throttle begins halfway from `warn` to
   * `critical`, Emergency and Shutdown a half and four fifths of the way from `critical` to 1.
   */
  static fromPressure(ratio: number, thresholds: BackpressureThresholds = {}): BackpressureLevel {
    const { warn = 0.7, critical = 0.9 } = thresholds;
    if (ratio < warn) return BackpressureLevel.Normal;
    if (ratio < (warn + critical) / 2) return BackpressureLevel.Warn;
    if (ratio < critical) return BackpressureLevel.Throttle;
    if (ratio < critical + (1 - critical) * 0.5) return BackpressureLevel.Critical;
    if (ratio < critical + (1 - critical) * 0.8) return BackpressureLevel.Emergency;
    return BackpressureLevel.Shutdown;
  }
}
