/** What all packets of a server have done, by mode: injected ones and those of streams together. */
import {
  COUNT_ANSWERS,
  COUNT_BYTES,
  COUNT_CHOICES,
  COUNT_ENTERED,
  COUNT_EVICTIONS,
  COUNT_HOPS,
  COUNT_LOOKUPS,
  COUNT_NEW_FLOWS,
  COUNT_RULES,
} from '@flatpath/engine/programs/count';
import { type Conntrack, ctFlows } from '@flatpath/engine/tables/conntrack';
import { BUILT_MODES, type Mode } from '../model/datapath.ts';
import { type Outcome, outcomesOf } from '../traffic/run.ts';
import type { Injection } from './injection.ts';
import type { StreamBook } from './stream-book.ts';

export interface Occupancy {
  /** Entries that hold a place, expired ones included until they are swept. */
  readonly entries: number;
  readonly capacity: number;
}

export interface Tally {
  readonly mode: Mode;
  readonly packets: number;
  readonly bytes: number;
  readonly newFlows: number;
  readonly rules: number;
  readonly lookups: number;
  readonly hops: number;
  readonly choices: number;
  readonly evictions: number;
  readonly answers: number;
  readonly outcomes: readonly Outcome[];
  /** Of injected packets; null where none was injected. Streams have tables of their own. */
  readonly conntrack: { readonly ipv4: Occupancy; readonly ipv6: Occupancy } | null;
}

/** One tally a mode that this build runs. */
export function tallyModes(injection: Injection, book: StreamBook): Tally[] {
  return BUILT_MODES.map((mode) => {
    const counters = book.countersOf(mode);
    const datapath = injection.used.get(mode)?.datapath;
    datapath?.counters.forEach((value, i) => {
      counters[i]! += value;
    });
    return {
      mode,
      packets: counters[COUNT_ENTERED]!,
      bytes: counters[COUNT_BYTES]!,
      newFlows: counters[COUNT_NEW_FLOWS]!,
      rules: counters[COUNT_RULES]!,
      lookups: counters[COUNT_LOOKUPS]!,
      hops: counters[COUNT_HOPS]!,
      choices: counters[COUNT_CHOICES]!,
      evictions: counters[COUNT_EVICTIONS]!,
      answers: counters[COUNT_ANSWERS]!,
      outcomes: outcomesOf({ counters, station: new Float64Array(0) }),
      conntrack:
        datapath === undefined
          ? null
          : { ipv4: occupancyOf(datapath.conntrack4), ipv6: occupancyOf(datapath.conntrack6) },
    };
  });
}

function occupancyOf(ct: Conntrack): Occupancy {
  let entries = 0;
  for (let shard = 0; shard < ct.shards; shard++) entries += ctFlows(ct, shard);
  return { entries, capacity: ct.limit * ct.shards };
}
