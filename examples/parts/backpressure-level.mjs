/** What a fill level means for those who write. */
import { BackpressureLevel } from 'sync-engine';

const throttle = BackpressureLevel.fromPressure(0.85);
console.log(throttle.name, throttle.acceptsWrites, throttle.httpStatus); // Throttle true 429

const own = BackpressureLevel.fromPressure(0.85, { warn: 0.5, critical: 0.8 });
console.log(own.name, own.acceptsWrites, own.retryAfterMs); // Critical false 500
console.log(own === BackpressureLevel.Critical); // true
