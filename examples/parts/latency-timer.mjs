/** How long things take. */
import { LatencyTimer, timeOperation } from 'sync-engine';

console.log(timeOperation('sql', 'sum', () => 1 + 1)); // 2
console.log(await timeOperation('sql', 'later', async () => 'done')); // done
console.log(typeof LatencyTimer); // function
