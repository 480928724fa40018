/**
 * The two sides of a comparison as models that packets run in: read, completed, and laid out alike.
 *
 * Guarantees: an object of the same name has the same made addresses, node and ports on both sides wherever its manifests
 * leave them open, and no made object takes an address that either side's manifests name. All errors of both sides are
 * thrown together.
 */

import type { Cluster } from '../cluster/cluster.ts';
import { type CompletionOptions, completeCluster } from '../cluster/complete.ts';
import type { InputFile } from '../cluster/files.ts';
import { readInput } from '../cluster/load.ts';
import { InputError, type Problem } from '../cluster/problem.ts';
import type { ObjectStore } from '../cluster/store.ts';
import { type ClusterModel, modelCluster } from '../compile/image.ts';
import { type DatapathInput, resolveDatapath } from '../model/datapath.ts';
import { isGitPath, readGitFiles } from './git-source.ts';
import { listNamedAddresses, pinToBefore } from './pin.ts';

/** The desired state of one side, and how its datapath is set. */
export interface SideInput {
  readonly store: ObjectStore;
  readonly datapath: DatapathInput;
  /** Some of it came as `kind: List`. */
  readonly isDump: boolean;
  /** Of reading it. */
  readonly warnings: readonly Problem[];
}

export interface Side {
  /** As it was given. */
  readonly store: ObjectStore;
  readonly model: ClusterModel;
}

export interface Sides {
  readonly before: Side;
  readonly after: Side;
}

/** Where a side comes from. */
export interface SideSource {
  /** Files, folders, `-`, or `git:REV:path`. */
  readonly paths: readonly string[];
  readonly datapath: DatapathInput;
}

/**
 * Reads both sides.
 * @param folder whose repository `git:` paths mean
 * @throws InputError with everything that is wrong with either
 */
export function readSides(
  before: SideSource,
  after: SideSource,
  folder: string,
): { before: SideInput; after: SideInput } {
  const errors: Problem[] = [];
  const sides = { before: readSide(before, folder, errors), after: readSide(after, folder, errors) };
  if (errors.length > 0) throw new InputError(errors);
  return sides;
}

function readSide({ paths, datapath }: SideSource, folder: string, errors: Problem[]): SideInput {
  const sources = paths.flatMap((path): (string | InputFile)[] =>
    isGitPath(path) ? readGitFiles(path, folder, errors) : [path],
  );
  const { store, isDump, warnings, errors: own } = readInput(sources);
  errors.push(...own);
  return { store, datapath, isDump, warnings };
}

/**
 * Completes both sides.
 * @param reserved addresses that no made object may have, such as those of recorded flows
 * @throws InputError with every conflict of both
 */
export function completeSides(before: SideInput, after: SideInput, reserved: readonly string[]): Sides {
  const errors: Problem[] = [];
  const complete = (side: SideInput, other: SideInput): Cluster | null => {
    try {
      const { isDump, warnings } = side;
      return completeCluster(side.store, { ...optionsOf(side, other, reserved), isDump, warnings });
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      errors.push(...error.problems);
      return null;
    }
  };
  const clusterBefore = complete(before, after);
  const clusterAfter = complete(after, before);
  if (clusterBefore === null || clusterAfter === null) throw new InputError(errors);
  const keepsNodes = [before, after].every(({ store }) => store.list('Node').length === 0);
  const pinned = (): ObjectStore => pinToBefore(after.store, clusterAfter, clusterBefore, keepsNodes);
  const laidOut = layOutAlike(clusterAfter, pinned, optionsOf(after, before, reserved));
  return {
    before: { store: before.store, model: modelSide(clusterBefore, before) },
    after: { store: after.store, model: modelSide(laidOut, after) },
  };
}

function optionsOf({ datapath }: SideInput, other: SideInput, reserved: readonly string[]): CompletionOptions {
  return {
    serviceCIDRs: datapath.kubeProxy?.serviceCIDRs ?? [],
    clusterCIDR: datapath.kubeProxy?.clusterCIDR ?? [],
    reserved: [...reserved, ...listNamedAddresses(other.store)],
  };
}

/** The cluster after, completed once more with what its objects had before. */
function layOutAlike(after: Cluster, pin: () => ObjectStore, options: CompletionOptions): Cluster {
  try {
    const pinned = completeCluster(pin(), options);
    return { ...pinned, warnings: after.warnings };
  } catch (error) {
    // What was made before may not fit what is written now (a smaller range, another family): then it is made anew.
    if (error instanceof InputError) return after;
    throw error;
  }
}

function modelSide(cluster: Cluster, { datapath }: SideInput): ClusterModel {
  return modelCluster(cluster, resolveDatapath(datapath, cluster.defaults));
}
