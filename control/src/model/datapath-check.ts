/**
 * Checks a datapath configuration as a user wrote it: shape by the schema, then prefixes, addresses and sizes.
 */

import { SCHEDULER_NAMES } from '@flatpath/engine/tables/ipvs-services';
import { Ajv, type ValidateFunction } from 'ajv';
import { parsePrefix } from './address.ts';
import { type DatapathInput, DatapathSchema, isPrimaryOnly } from './datapath.ts';
import { summarizeErrors } from './schema-errors.ts';

/** Sizes that Cilium allows (FACTS §1.6); 0 leaves the choice to the number of backends. */
const MAGLEV_SIZES = [0, 251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521, 131_071];

let validate: ValidateFunction | null = null;

/** @returns the configuration, and one sentence per error; the configuration is only good without any */
export function checkDatapath(document: unknown): { input: DatapathInput; problems: string[] } {
  validate ??= new Ajv({ allErrors: true, strict: false }).compile(DatapathSchema);
  if (!validate(document)) return { input: {}, problems: summarizeErrors(validate.errors ?? []) };
  const input = document as DatapathInput;
  return { input, problems: checkDatapathValues(input, '') };
}

/** What the schema cannot say. `at` is the path of the block in its document. */
export function checkDatapathValues(input: DatapathInput, at: string): string[] {
  const problems: string[] = [];
  const field = (name: string): string => (at === '' ? name : `${at}.${name}`);
  const prefixes = (name: string, texts: readonly string[] | undefined): void => {
    texts?.forEach((text, i) => {
      if (parsePrefix(text) !== null) return;
      problems.push(`${field(name)}[${i}]: '${text}' is not a prefix such as 10.244.0.0/16`);
    });
  };
  prefixes('kubeProxy.clusterCIDR', input.kubeProxy?.clusterCIDR);
  prefixes('kubeProxy.serviceCIDRs', input.kubeProxy?.serviceCIDRs);
  const nodePortAddresses = input.kubeProxy?.nodePortAddresses ?? [];
  if (nodePortAddresses.length > 1 && nodePortAddresses.includes('primary')) {
    problems.push(`${field('kubeProxy.nodePortAddresses')}: 'primary' stands alone`);
  } else if (!isPrimaryOnly(nodePortAddresses)) prefixes('kubeProxy.nodePortAddresses', nodePortAddresses);
  const scheduler = input.kubeProxy?.ipvsScheduler;
  if (scheduler !== undefined && !SCHEDULER_NAMES.some((name) => name === scheduler)) {
    problems.push(`${field('kubeProxy.ipvsScheduler')}: '${scheduler}' is not one of ${SCHEDULER_NAMES.join(', ')}`);
  }
  const size = input.ebpf?.maglevTableSize;
  if (size !== undefined && !MAGLEV_SIZES.includes(size)) {
    problems.push(`${field('ebpf.maglevTableSize')}: ${size} is not one of ${MAGLEV_SIZES.join(', ')}`);
  }
  return problems;
}
