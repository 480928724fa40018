/**
 * The bursts of a thread: one for the frames of a breath, one for the frames that close the connections it replaced.
 *
 * They are constants of the module and not fields of the station, because a thread has but one station at work and the
 * bundle's functions are specialised for them (scripts/specialise.mjs): V8 then knows every lane's address and length.
 * Between two breaths nothing in them counts. Nobody writes their lane `choice`: choice points ask the flow's hash.
 */
import { BURST_FRAMES, type Burst, createBurst, DEFAULT_SLOT_BYTES } from '../wire/burst.ts';

/** FIN and SHUTDOWN frames, and the ICMP errors that quote them, fit into small slots. */
const CLOSING_SLOT_BYTES = 320;

export const threadBurst: Burst = createBurst(BURST_FRAMES, DEFAULT_SLOT_BYTES);
export const closingBurst: Burst = createBurst(BURST_FRAMES, CLOSING_SLOT_BYTES);

threadBurst.choice.fill(-1);
closingBurst.choice.fill(-1);
