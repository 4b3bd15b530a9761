/** Lengths of the short texts that travel beside the content; the envelope's length fields rely on them. */

export interface TextLimit {
  readonly name: string;
  readonly bytesMin: number;
  readonly bytesMax: number;
}

export const TEXT_LIMITS = {
  state: { name: 'state', bytesMin: 1, bytesMax: 64 },
  homeInstanceId: { name: 'homeInstanceId', bytesMin: 1, bytesMax: 255 },
  traceParent: { name: 'traceParent', bytesMin: 1, bytesMax: 512 },
  traceState: { name: 'traceState', bytesMin: 1, bytesMax: 512 },
} as const satisfies Record<string, TextLimit>;

export function isText(value: string, limit: TextLimit): boolean {
  if (!value.isWellFormed()) return false;
  const bytes = Buffer.byteLength(value);
  return bytes >= limit.bytesMin && bytes <= limit.bytesMax;
}
