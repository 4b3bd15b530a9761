/**
 * Who stamped a write: node id and incarnation. Inside the engine an origin is a string of exactly 16
 * characters, each one byte (0–255): the node id padded with zeros to 12, then the incarnation as four
 * bytes, big-endian. Comparing such strings with `<` compares the bytes.
 */

export const ORIGIN_BYTES = 16;
export const NODE_ID_LENGTH_MAX = 12;

/** `nodeId`: 1 to 12 printable ASCII characters (checked by the configuration). */
export function makeOrigin(nodeId: string, incarnation: number): string {
  const node = nodeId.padEnd(NODE_ID_LENGTH_MAX, '\0');
  const bytes = [
    incarnation >>> 24,
    (incarnation >>> 16) & 255,
    (incarnation >>> 8) & 255,
    incarnation & 255,
  ];
  return node + String.fromCharCode(...bytes);
}

/** `node-1#7`, for people. */
export function formatOrigin(origin: string): string {
  const node = origin.slice(0, NODE_ID_LENGTH_MAX).replace(/\0+$/, '');
  let incarnation = 0;
  for (let at = NODE_ID_LENGTH_MAX; at < ORIGIN_BYTES; at++)
    incarnation = incarnation * 256 + origin.charCodeAt(at);
  return `${node}#${incarnation}`;
}
