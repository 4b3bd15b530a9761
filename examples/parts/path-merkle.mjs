/** The arithmetic of the digests: ids are paths, a row has a leaf, and a batch adds to the sums of the paths above. */
import { createHash, randomBytes } from 'node:crypto';
import { MerkleBatch, PathMerkle } from 'sync-engine';

console.log(PathMerkle.split('uk.nhs.patient').join(' / ')); // uk / nhs / patient
console.log(PathMerkle.parent('uk.nhs.patient').join(' / ')); // uk / nhs
console.log(PathMerkle.ancestors('uk.nhs.patient').length); // 3

const key = randomBytes(32);
const leaf = (id, text) => {
  const row = { id, version: 1, origin: 'site-a#1', deleted: false, state: 'default', contentType: 'json' };
  return PathMerkle.leafHash(key, row, createHash('sha256').update(text).digest());
};

const batch = new MerkleBatch();
batch.insert('uk.nhs.1', leaf('uk.nhs.1', 'one'));
batch.insert('uk.nhs.2', leaf('uk.nhs.2', 'two'));
batch.insert('fr', leaf('fr', 'trois'));
console.log(
  batch.size,
  batch
    .affectedPrefixes()
    .map((path) => path.join('.') || '(root)')
    .join(' '),
); // 3 uk.nhs uk (root)
console.log(
  batch
    .deltas()
    .map(({ path, count }) => `${path.join('.') || '(root)'} +${count}`)
    .join(', '),
); // uk.nhs +2, uk +2, (root) +3

// A batch that puts a row back as it was adds nothing: sums are differences, whatever the number of siblings.
const undone = new MerkleBatch();
undone.insert('fr', leaf('fr', 'quatre'), leaf('fr', 'trois'));
undone.insert('fr', leaf('fr', 'trois'));
console.log(undone.deltas()[0].sum.every((byte) => byte === 0)); // true
