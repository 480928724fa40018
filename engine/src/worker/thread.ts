/** What piscina runs in a thread, bundled into dist/thread.mjs: one call is one resident task. */
import { type ResidentTask, runResident } from './resident.ts';

export default function runThread(task: ResidentTask): void {
  runResident(task);
}
