/**
 * Scheduling: which real server a new connection to a virtual server goes to (linux ip_vs_core.c, ip_vs_schedule).
 *
 * 1. A client with a stay (persistence) goes where it stays, whatever the load.
 * 2. A probe takes the script's answer among all real servers with a weight; it sees every one of them in turn.
 * 3. Otherwise the virtual server's scheduler decides.
 *
 * Recorder: EVENT_CHOICE (row of the virtual server, real servers with a weight, number of the chosen one among them),
 * then EVENT_MAP (MAP_REAL_SERVERS, row of the real server); a stay is EVENT_MAP (MAP_PERSISTENCE, row or -1).
 */
import { takeChoice } from '../tables/event-ring.ts';
import {
  RS_WEIGHT,
  realWord,
  SCHED_DH,
  SCHED_FO,
  SCHED_LBLC,
  SCHED_LBLCR,
  SCHED_LC,
  SCHED_MH,
  SCHED_NQ,
  SCHED_OVF,
  SCHED_RR,
  SCHED_SED,
  SCHED_SH,
  SCHED_WLC,
  SCHED_WRR,
  serverWord,
  VS_COUNT,
  VS_FIRST,
  VS_FLAGS,
  VS_PERSISTENT,
  VS_SCHEDULER,
} from '../tables/ipvs-services.ts';
import type { Burst } from '../wire/burst.ts';
import { COUNT_CHOICES } from './count.ts';
import type { Datapath } from './datapath.ts';
import { MAP_PERSISTENCE, MAP_REAL_SERVERS } from './ipvs-image.ts';
import { scheduleLocality, scheduleReplicatedLocality } from './ipvs-locality.ts';
import { beginStay, findStay } from './ipvs-persistence.ts';
import {
  scheduleDestinationHash,
  scheduleHeaviest,
  scheduleLeast,
  scheduleMaglev,
  scheduleRoundRobin,
  scheduleShortestDelay,
  scheduleSourceHash,
  scheduleWeightedLeast,
  scheduleWeightedRoundRobin,
} from './ipvs-schedulers.ts';
import { EVENT_CHOICE, EVENT_MAP, record2, record3 } from './record.ts';

/** The real server (row) of a new connection to the virtual server in a row; -1 if none can take it. */
export function chooseRealServer(dp: Datapath, b: Burst, s: number, row: number): number {
  const isPersistent = (serverWord(dp.ipvs!.services, row, VS_FLAGS) & VS_PERSISTENT) !== 0;
  if (isPersistent) {
    const stay = findStay(dp, b, s, row);
    if (dp.ring.on) record2(dp.ring, EVENT_MAP, MAP_PERSISTENCE, stay);
    if (stay !== -1) return stay;
  }
  dp.counters[COUNT_CHOICES]++;
  const real = b.choice[s] >= 0 ? takeWeighted(dp, row) : schedule(dp, b, s, row);
  if (dp.ring.on) {
    if (real !== -1) record3(dp.ring, EVENT_CHOICE, row, countWeighted(dp, row, -1), countWeighted(dp, row, real));
    record2(dp.ring, EVENT_MAP, MAP_REAL_SERVERS, real);
  }
  if (real !== -1 && isPersistent) beginStay(dp, b, s, row, real);
  return real;
}

function schedule(dp: Datapath, b: Burst, s: number, row: number): number {
  switch (serverWord(dp.ipvs!.services, row, VS_SCHEDULER)) {
    case SCHED_RR:
      return scheduleRoundRobin(dp, b, s, row);
    case SCHED_WRR:
      return scheduleWeightedRoundRobin(dp, b, s, row);
    case SCHED_LC:
      return scheduleLeast(dp, b, s, row);
    case SCHED_WLC:
      return scheduleWeightedLeast(dp, b, s, row);
    case SCHED_LBLC:
      return scheduleLocality(dp, b, s, row);
    case SCHED_LBLCR:
      return scheduleReplicatedLocality(dp, b, s, row);
    case SCHED_SH:
      return scheduleSourceHash(dp, b, s, row);
    case SCHED_DH:
      return scheduleDestinationHash(dp, b, s, row);
    case SCHED_SED:
      return scheduleShortestDelay(dp, b, s, row, false);
    case SCHED_NQ:
      return scheduleShortestDelay(dp, b, s, row, true);
    case SCHED_MH:
      return scheduleMaglev(dp, b, s, row);
    case SCHED_FO:
      return scheduleHeaviest(dp, b, s, row, false);
    case SCHED_OVF:
      return scheduleHeaviest(dp, b, s, row, true);
  }
  return -1;
}

/** The real server that the script of a probe names, of those with a weight. */
function takeWeighted(dp: Datapath, row: number): number {
  const services = dp.ipvs!.services;
  const options = countWeighted(dp, row, -1);
  if (options === 0) return -1;
  let left = takeChoice(dp.ring, options);
  let real = serverWord(services, row, VS_FIRST);
  while (realWord(services, real, RS_WEIGHT) === 0 || left-- > 0) real++;
  return real;
}

/** Real servers with a weight: all, or those that stand before `until`. */
function countWeighted(dp: Datapath, row: number, until: number): number {
  const services = dp.ipvs!.services;
  const first = serverWord(services, row, VS_FIRST);
  const end = until === -1 ? first + serverWord(services, row, VS_COUNT) : until;
  let count = 0;
  for (let real = first; real < end; real++) if (realWord(services, real, RS_WEIGHT) > 0) count++;
  return count;
}
