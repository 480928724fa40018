/**
 * What piscina runs in a thread, bundled into dist/thread.mjs: one call is one resident task.
 *
 * V8 stops inlining into a function at a budget made for ordinary code; a packet's path is many small functions, and the
 * calls between them keep it from learning that their arrays are the same. A larger budget saves 13 to 17 % of a packet
 * (Node 20, ebpf, 65,536 flows). The flag holds for the process and is read whenever a function is optimised, so it must
 * be set before the hot ones are; it changes speed only.
 */
import { setFlagsFromString } from 'node:v8';
import { type ResidentTask, runResident } from './resident.ts';

setFlagsFromString('--max-inlined-bytecode-size-cumulative=4000');

export default function runThread(task: ResidentTask): void {
  runResident(task);
}
