/**
 * flatpath as a library: a cluster loaded from manifests, and questions to it. The package's entry.
 *
 * Every answer comes from the programs that move packets, as on the command line. Bad input, a reference that cannot be
 * found and a wrong option are thrown as `InputError`, all problems of a load at once.
 */

import type { Cluster as CompletedCluster } from '../cluster/cluster.ts';
import { loadCluster as load } from '../cluster/load.ts';
import { describeProblem, InputError } from '../cluster/problem.ts';
import { type ClusterModel, modelCluster } from '../compile/image.ts';
import { BUILT_MODES, type DatapathInput, type Mode, resolveDatapath } from '../model/datapath.ts';
import { checkDatapath } from '../model/datapath-check.ts';
import { type BranchPolicies, branchPolicies } from '../probe/branch-policies.ts';
import { type Connection, resolveConnection } from '../probe/connection.ts';
import { describePolicy, listNotEnforced, notEnforcedFor, type PolicyName } from '../probe/not-enforced.ts';
import { parseReference, UnresolvedReference } from '../probe/reference.ts';
import type { ActualResult } from '../probe/report.ts';
import { type Branch, Simulator } from '../probe/simulator.ts';
import { summarizeBranches } from '../probe/suite.ts';
import { defaultMode, type TraceReport, traceConnection, traceReport } from '../probe/trace-report.ts';
import { formatTrace } from '../probe/trace-text.ts';
import type { ReachFilter } from '../reach/filter.ts';
import { readPortFilter } from '../reach/filter-ports.ts';
import { Reachability } from '../reach/reachability.ts';
import { type ReachReport, reportSteps } from '../reach/report.ts';
import { formatReport } from '../reach/text.ts';

export type { PolicyAnswer } from '../explain/judgement.ts';
export type { Origin } from '../model/origin.ts';
export type { BranchPolicies, DatapathInput, Mode, PolicyName };
export { InputError };

/** What a cluster is loaded from. */
export interface ClusterInput {
  /** Files and folders; relative paths start at the working directory. */
  readonly manifests?: readonly string[];
  /** Kubernetes objects; they win over those of the same name in the manifests. */
  readonly objects?: readonly unknown[];
}

export interface ClusterOptions {
  /** The `datapath` block of a ConnectivityTest: kube-proxy's and eBPF's options, the policy profile. */
  readonly datapath?: DatapathInput;
  /** Default: what the cluster's own ConfigMaps say, else iptables. */
  readonly mode?: Mode;
}

/** The first packet of a new connection. */
export interface ProbeRequest {
  /** 'pod/NAMESPACE/NAME', 'deploy/…', 'sts/…', 'ds/…', 'node/NAME' or an address. */
  readonly from: string;
  /** The same, or 'svc/NAMESPACE/NAME'; with its port behind it ('svc/shop/cart:80') or in `port`. */
  readonly to: string;
  /** A number, or the name of a Service's or container's port. */
  readonly port?: number | string;
  /** TCP, UDP, SCTP or ICMP; default TCP, or the protocol of the named port. */
  readonly protocol?: string;
  /** Where a packet from outside enters. */
  readonly node?: string;
}

/** One way that the packet could take. */
export interface ProbeBranch {
  /** delivered, forwarded, dropped or rejected. */
  readonly verdict: string;
  readonly reason: string;
  readonly translated: boolean;
  readonly masquerade: boolean;
  /** 'ip:port' that a Service translated the destination to. */
  readonly backend: string | null;
  /** 'pod NAMESPACE/NAME' or 'node NAME'. */
  readonly deliveredTo: string | null;
  /** What policies said at both ends; null at an end where no pod of the cluster is. */
  readonly policies: BranchPolicies;
}

/** The answer for all branches together: the verdict is the first that occurs of dropped, rejected, forwarded, delivered. */
export interface ProbeAnswer extends ActualResult {
  readonly branches: readonly ProbeBranch[];
  /** Policies that may select a pod of the connection and that nothing here enforces. */
  readonly notEnforced: readonly PolicyName[];
}

/** A probe's answer with the story of every hop. */
export type TraceAnswer = TraceReport['traces'][number] & {
  /** The story as `flatpath trace` prints it. */
  readonly text: string;
};

/** What `reach` is asked; what is left out, or empty, is everything. */
export interface ReachRequest {
  /** Sources: 'pod/NAMESPACE/NAME', 'deploy/…', 'sts/…', 'ds/…', 'node/NAME', 'nodes', 'outside' or an address. */
  readonly from?: readonly string[];
  /** Targets: the same, or 'svc/NAMESPACE/NAME'. */
  readonly to?: readonly string[];
  /** Pairs of which one end is in one of them. */
  readonly namespaces?: readonly string[];
  /** '80', '443/tcp', '8000-8080', '53/udp' or 'icmp'. */
  readonly ports?: readonly string[];
}

/** The matrix: `cells[matrix[i][j]]` says what source i, `peers[sources[i]]`, reaches of target j, `peers[targets[j]]`. */
export type ReachAnswer = ReachReport & {
  /** As `flatpath reach` prints it. */
  readonly text: string;
};

/**
 * Loads a cluster.
 * @param input paths of files and folders, or manifests and objects
 * @throws InputError naming file, object and field of everything that is wrong
 */
export function loadCluster(
  input: string | readonly string[] | ClusterInput,
  { datapath = {}, mode }: ClusterOptions = {},
): Cluster {
  const problems = checkDatapath(datapath).problems.map((problem) => `datapath ${problem}`);
  if (mode !== undefined && !BUILT_MODES.includes(mode)) {
    problems.push(`mode '${String(mode)}' is not one of ${BUILT_MODES.join(', ')}`);
  }
  if (problems.length > 0) throw inputError(problems);
  const { manifests = [], objects = [] } = readInput(input);
  const { cluster } = load(manifests, {
    objects,
    objectsFile: 'objects',
    serviceCIDRs: datapath.kubeProxy?.serviceCIDRs ?? [],
    clusterCIDR: datapath.kubeProxy?.clusterCIDR ?? [],
  });
  const model = modelCluster(cluster, resolveDatapath(datapath, cluster.defaults));
  return new Cluster(model, mode ?? defaultMode(model));
}

/** A cluster in one mode. Nothing that is asked changes it: every question is a fresh client's. */
export class Cluster {
  readonly mode: Mode;
  readonly #model: ClusterModel;
  readonly #simulator: Simulator;

  /** Made by `loadCluster`. */
  constructor(model: ClusterModel, mode: Mode) {
    this.mode = mode;
    this.#model = model;
    this.#simulator = new Simulator(model, mode);
  }

  /** The same cluster in another mode; nothing is read again. */
  withMode(mode: Mode): Cluster {
    if (!BUILT_MODES.includes(mode)) {
      throw inputError([`mode '${String(mode)}' is not one of ${BUILT_MODES.join(', ')}`]);
    }
    return new Cluster(this.#model, mode);
  }

  /** The objects, completed as a control plane would: pods of Deployments, addresses, EndpointSlices. */
  get objects(): CompletedCluster {
    return this.#model.cluster;
  }

  /** What is odd in the input, and which policies of other systems are not enforced; a sentence each. */
  get warnings(): string[] {
    const { cluster, warnings } = this.#model;
    const sentences = [...cluster.warnings, ...warnings].map(describeProblem);
    for (const policy of listNotEnforced(this.#model)) sentences.push(`not enforced: ${describePolicy(policy)}`);
    return sentences;
  }

  /** Where a connection's first packet ends, on every branch that the datapath could choose. */
  probe(request: ProbeRequest): ProbeAnswer {
    const connection = this.#connect(request);
    const branches = this.#simulator.probe(connection, true);
    return {
      ...summarizeBranches(branches),
      branches: branches.map((branch) => this.#describeBranch(branch)),
      notEnforced: notEnforcedFor(this.#model, connection, branches),
    };
  }

  /** True when the first packet arrives, at a pod, a node or outside, on every branch. */
  allows(request: ProbeRequest): boolean {
    const { verdict } = this.probe(request);
    return verdict === 'delivered' || verdict === 'forwarded';
  }

  /** The packet's story: every hop, rule or map entry, and the field that each came from. */
  trace(request: ProbeRequest): TraceAnswer {
    const trace = traceConnection(this.#model, this.mode, this.#connect(request));
    const report = traceReport(request, [trace]).traces[0]!;
    return { ...report, text: formatTrace(trace, PLAIN).join('\n') };
  }

  /** Who can reach whom, on which ports: workloads, nodes and the outside, and through which Services. */
  reach({ from = [], to = [], namespaces = [], ports = [] }: ReachRequest = {}): ReachAnswer {
    const filters = ports.flatMap((text) => {
      const read = readPortFilter(text);
      if (read === null) throw inputError([`'${text}' is not a list of 80, 443/tcp, 8000-8080, 53/udp or icmp`]);
      return read;
    });
    const report = asInputError(() =>
      makeReport(new Reachability(this.#model, this.mode), { from, to, namespaces, ports: filters }),
    );
    return {
      ...report,
      get text() {
        return [...formatReport(report, { width: TEXT_COLUMNS, denied: false, ...PLAIN })].join('\n');
      },
    };
  }

  #connect(request: ProbeRequest): Connection {
    const { from, protocol, node } = request;
    return asInputError(() => resolveConnection(this.#model, { from, to: addPort(request), protocol, node }));
  }

  #describeBranch(branch: Branch): ProbeBranch {
    return {
      verdict: branch.verdict,
      reason: branch.reason,
      translated: branch.translated,
      masquerade: branch.masquerade,
      backend: branch.backend,
      deliveredTo: this.#simulator.describeTarget(branch),
      policies: branchPolicies(this.#simulator.image, branch),
    };
  }
}

const plain = (text: string): string => text;
const PLAIN = { good: plain, bad: plain, dim: plain, bold: plain };
const TEXT_COLUMNS = 120;

function makeReport(reach: Reachability, filter: ReachFilter): ReachReport {
  const steps = reportSteps(reach, filter);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** A reference that cannot be read or found is bad input. */
function asInputError<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof UnresolvedReference)) throw error;
    throw inputError([error.message]);
  }
}

function readInput(input: string | readonly string[] | ClusterInput): ClusterInput {
  if (typeof input === 'string') return { manifests: [input] };
  return 'length' in input ? { manifests: input } : input;
}

/** The target with the port behind it. */
function addPort({ to, port }: ProbeRequest): string {
  if (port === undefined) return to;
  const reference = parseReference(to);
  if (reference.port !== null) throw new UnresolvedReference(`'${to}' has a port, and so has the request: ${port}`);
  return reference.address?.family === 6 && !to.includes('[') ? `[${to}]:${port}` : `${to}:${port}`;
}

function inputError(messages: readonly string[]): InputError {
  const place = { file: '', document: 0, object: '', field: '' };
  return new InputError(messages.map((message) => ({ severity: 'error' as const, ...place, message })));
}
