/** The file that piscina loads in a thread: one call is one resident task. */
import { type ResidentTask, runResident } from './resident.ts';

export default function runThread(task: ResidentTask): void {
  runResident(task);
}
