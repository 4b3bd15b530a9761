/** What bytes are: JSON, where they parse as JSON. */
import { ContentType } from 'sync-engine';

console.log(ContentType.detect('{"tea":1}')); // json
console.log(ContentType.detect(Buffer.from([0x89, 0x50, 0x4e, 0x47]))); // binary
console.log(ContentType.detect('tea')); // binary
