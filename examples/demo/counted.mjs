/**
 * The other side of a comparison, with what would cross a wire counted: 16 bytes a hash, 4 a number, segments as
 * UTF-8 behind a length of 2.
 */
export function counted(remote) {
  const traffic = { bytes: 0, trips: 0 };
  const text = (segments) => segments.reduce((sum, one) => sum + Buffer.byteLength(one) + 2, 0);
  const asked = (bytes) => {
    traffic.trips++;
    traffic.bytes += bytes;
  };
  const source = {
    keyId: remote.keyId,
    async nodes(paths) {
      asked(paths.reduce((sum, path) => sum + text(path), 0));
      const nodes = await remote.nodes(paths);
      for (const node of nodes) if (node !== undefined) traffic.bytes += node.own === undefined ? 25 : 41;
      return nodes;
    },
    async children(path, page) {
      asked(text(path));
      const children = await remote.children(path, page);
      traffic.bytes += text([...children.keys()]) + children.size * 16;
      return children;
    },
    async buckets(path, level, buckets) {
      asked(text(path) + buckets.length * 4);
      const answers = await remote.buckets(path, level, buckets);
      for (const answer of answers) {
        if ('hashes' in answer) traffic.bytes += answer.hashes.length;
        else traffic.bytes += text([...answer.children.keys()]) + answer.children.size * 16;
      }
      return answers;
    },
  };
  return { source, traffic };
}
