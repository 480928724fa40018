/**
 * A connection traced through one or more modes, and the answer as the JSON that `trace --json` and the API give.
 *
 * Every branch that the datapath could choose is in it; the whole story is told of the first MAX_STORIES branches of a
 * mode, `hops` of the others is null.
 */
import type { ClusterModel } from '../compile/image.ts';
import { type Hop, type Story, tellStory } from '../explain/story.ts';
import { BUILT_MODES, type Mode } from '../model/datapath.ts';
import { type BranchPolicies, branchPolicies } from './branch-policies.ts';
import type { Connection } from './connection.ts';
import { notEnforcedFor, type PolicyName } from './not-enforced.ts';
import type { ActualResult } from './report.ts';
import { type Branch, Simulator } from './simulator.ts';
import { summarizeBranches } from './suite.ts';

/** Branches of a mode whose story is told. */
const MAX_STORIES = 100;

/** A connection's answer in one mode, and the stories of its first branches. */
export interface Trace {
  readonly mode: Mode;
  readonly simulator: Simulator;
  readonly branches: readonly Branch[];
  readonly stories: readonly Story[];
  /** What policies said on each branch. */
  readonly policies: readonly BranchPolicies[];
  /** Policies that may select a pod of the connection and that nothing here enforces. */
  readonly notEnforced: readonly PolicyName[];
}

export interface TracedBranch {
  readonly verdict: string;
  readonly reason: string;
  readonly translated: boolean;
  readonly masquerade: boolean;
  readonly backend: string | null;
  readonly deliveredTo: string | null;
  readonly policies: BranchPolicies;
  readonly hops: readonly Hop[] | null;
}

export interface TraceReport {
  readonly version: 1;
  readonly from: string;
  readonly to: string;
  readonly traces: readonly (ActualResult & {
    readonly mode: Mode;
    readonly notEnforced: readonly PolicyName[];
    readonly branches: readonly TracedBranch[];
  })[];
}

/** The mode where none is asked for: the cluster's own where its ConfigMaps tell and this build runs it, else iptables. */
export function defaultMode(model: ClusterModel): Mode {
  const own = model.cluster.defaults.modes?.[0];
  return own !== undefined && BUILT_MODES.includes(own) ? own : 'iptables';
}

/** Runs a connection's first packet along every branch of a mode, recorder on. */
export function traceConnection(model: ClusterModel, mode: Mode, connection: Connection): Trace {
  const simulator = new Simulator(model, mode);
  const branches = simulator.probe(connection, true);
  const stories = branches
    .slice(0, MAX_STORIES)
    .map((branch) => tellStory(simulator.image, branch.events, branch.source));
  const policies = branches.map((branch) => branchPolicies(simulator.image, branch));
  return { mode, simulator, branches, stories, policies, notEnforced: notEnforcedFor(model, connection, branches) };
}

/** @param request `from` and `to` as the user wrote them */
export function traceReport(
  request: { readonly from: string; readonly to: string },
  traces: readonly Trace[],
): TraceReport {
  return {
    version: 1,
    from: request.from,
    to: request.to,
    traces: traces.map(({ mode, simulator, branches, stories, policies, notEnforced }) => ({
      mode,
      ...summarizeBranches(branches),
      notEnforced,
      branches: branches.map((branch, i) => ({
        verdict: branch.verdict,
        reason: branch.reason,
        translated: branch.translated,
        masquerade: branch.masquerade,
        backend: branch.backend,
        deliveredTo: simulator.describeTarget(branch),
        policies: policies[i]!,
        hops: stories[i]?.hops ?? null,
      })),
    })),
  };
}
