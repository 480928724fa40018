/** Socket-level balancing; being written. */
import type { Burst } from '../wire/burst.ts';
import type { Datapath } from './datapath.ts';

/** Answers 0, VERDICT_REJECTED, or minus a drop reason. */
export function connectSocket(_dp: Datapath, _b: Burst, _s: number): number {
  return 0;
}
