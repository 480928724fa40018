/**
 * Datapath options that the cluster itself tells: ConfigMaps kube-system/kube-proxy (a KubeProxyConfiguration in one of
 * its keys) and kube-system/cilium-config. Options that flatpath does not have are left alone; a value that cannot be
 * read is a warning. Where Cilium replaces kube-proxy its mode wins.
 */

import { SCHEDULER_NAMES } from '@flatpath/engine/tables/ipvs-services';
import { parseDocument } from 'yaml';
import { parsePrefix } from '../model/address.ts';
import type { ConfigMap } from '../model/config-map.ts';
import { type DatapathInput, isPrimaryOnly } from '../model/datapath.ts';
import { originOf } from '../model/origin.ts';
import type { DatapathDefaults } from './cluster.ts';
import type { ProblemList } from './problem.ts';
import type { ObjectStore } from './store.ts';

type Writable<T> = { -readonly [K in keyof T]: T[K] };
type KubeProxy = NonNullable<DatapathInput['kubeProxy']>;
type Ebpf = NonNullable<DatapathInput['ebpf']>;

const LOCAL_MODES = ['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix'] as const;

export function readDefaults(store: ObjectStore, problems: ProblemList): DatapathDefaults {
  const defaults: Writable<DatapathDefaults> & { taken: DatapathDefaults['taken'][number][] } = { taken: [] };
  const kubeProxy = store.get('ConfigMap', 'kube-system', 'kube-proxy');
  if (kubeProxy !== undefined) {
    const taker = new Taker(kubeProxy, defaults.taken, problems);
    const found = readKubeProxy(taker);
    if (found.modes !== undefined) defaults.modes = found.modes;
    if (Object.keys(found.kubeProxy).length > 0) defaults.kubeProxy = found.kubeProxy;
  }
  const cilium = store.get('ConfigMap', 'kube-system', 'cilium-config');
  if (cilium !== undefined) readCilium(new Taker(cilium, defaults.taken, problems), defaults);
  return defaults;
}

/** Reads values of one ConfigMap and notes which were taken. */
class Taker {
  readonly configMap: ConfigMap;
  readonly #taken: DatapathDefaults['taken'][number][];
  readonly #problems: ProblemList;

  constructor(configMap: ConfigMap, taken: DatapathDefaults['taken'][number][], problems: ProblemList) {
    this.configMap = configMap;
    this.#taken = taken;
    this.#problems = problems;
  }

  /** Notes that an option was taken from a key of the ConfigMap's data. */
  take<T extends string | number | boolean | readonly string[]>(option: string, value: T, key: string): T {
    const text = typeof value === 'object' ? value.join(', ') : String(value);
    this.#taken.push({ option, value: text, origin: originOf(this.configMap, dataField(key)) });
    return value;
  }

  warn(key: string, message: string): void {
    this.#problems.warn(this.configMap, dataField(key), message);
  }
}

function dataField(key: string): string {
  return /^[A-Za-z0-9_-]+$/.test(key) ? `data.${key}` : `data["${key}"]`;
}

function readKubeProxy(taker: Taker): { modes?: DatapathInput['modes']; kubeProxy: KubeProxy } {
  const kubeProxy: KubeProxy = {};
  const data = taker.configMap.data ?? {};
  const key = Object.keys(data).find((name) => /kind:\s*"?KubeProxyConfiguration/.test(data[name]!));
  if (key === undefined) return { kubeProxy };
  const document = parseDocument(data[key]!, { schema: 'core', prettyErrors: false });
  const root: unknown = document.errors.length > 0 ? null : toPlain(() => document.toJS({ maxAliasCount: 0 }));
  if (typeof root !== 'object' || root === null) {
    taker.warn(key, 'is not YAML and is ignored');
    return { kubeProxy };
  }
  const text = (...path: string[]): string | undefined => {
    const value = at(root, path);
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const flag = (...path: string[]): boolean | undefined => {
    const value = at(root, path);
    return typeof value === 'boolean' ? value : undefined;
  };
  const mode = at(root, ['mode']);
  let modes: DatapathInput['modes'];
  if (mode === '' || mode === 'iptables') modes = [taker.take('mode', 'iptables', key)];
  else if (mode === 'ipvs' || mode === 'nftables') modes = [taker.take('mode', mode, key)];
  else if (mode !== undefined && mode !== null)
    taker.warn(key, `mode ${JSON.stringify(mode)} is unknown and is ignored`);
  const clusterCIDR = text('clusterCIDR')
    ?.split(',')
    .map((part) => part.trim());
  if (clusterCIDR !== undefined) {
    if (clusterCIDR.every((part) => parsePrefix(part) !== null)) {
      kubeProxy.clusterCIDR = [...taker.take('clusterCIDR', clusterCIDR, key)];
    } else taker.warn(key, `clusterCIDR ${clusterCIDR.join(',')} holds no prefix and is ignored`);
  }
  const local = LOCAL_MODES.find((name) => name === text('detectLocalMode'));
  if (local !== undefined) kubeProxy.detectLocalMode = taker.take('detectLocalMode', local, key);
  const bridge = text('detectLocal', 'bridgeInterface');
  if (bridge !== undefined) kubeProxy.bridgeInterface = taker.take('bridgeInterface', bridge, key);
  const prefix = text('detectLocal', 'interfaceNamePrefix');
  if (prefix !== undefined) kubeProxy.interfaceNamePrefix = taker.take('interfaceNamePrefix', prefix, key);
  const masqueradeAll = flag('iptables', 'masqueradeAll') ?? flag('nftables', 'masqueradeAll');
  if (masqueradeAll !== undefined) kubeProxy.masqueradeAll = taker.take('masqueradeAll', masqueradeAll, key);
  const liberal = flag('conntrack', 'tcpBeLiberal');
  if (liberal !== undefined) kubeProxy.tcpBeLiberal = taker.take('tcpBeLiberal', liberal, key);
  const localhost = flag('iptables', 'localhostNodePorts');
  if (localhost !== undefined) kubeProxy.localhostNodePorts = taker.take('localhostNodePorts', localhost, key);
  const scheduler = text('ipvs', 'scheduler');
  if (scheduler !== undefined) {
    if (SCHEDULER_NAMES.some((name) => name === scheduler)) {
      kubeProxy.ipvsScheduler = taker.take('ipvsScheduler', scheduler, key);
    } else taker.warn(key, `ipvs.scheduler ${JSON.stringify(scheduler)} is unknown and is ignored`);
  }
  const addresses = at(root, ['nodePortAddresses']);
  if (Array.isArray(addresses) && addresses.length > 0) {
    const texts = addresses.filter((part): part is string => typeof part === 'string');
    const isRead = isPrimaryOnly(texts) || texts.every((part) => parsePrefix(part) !== null);
    if (texts.length === addresses.length && isRead) {
      kubeProxy.nodePortAddresses = [...taker.take('nodePortAddresses', texts, key)];
    } else taker.warn(key, 'nodePortAddresses holds what is no prefix and is ignored');
  }
  return { modes, kubeProxy };
}

function readCilium(taker: Taker, defaults: Writable<DatapathDefaults>): void {
  const data = taker.configMap.data ?? {};
  const value = (key: string): string => (Object.hasOwn(data, key) ? data[key]!.trim() : '');
  const ebpf: Ebpf = {};
  const replacement = value('kube-proxy-replacement');
  if (replacement === 'true' || replacement === 'strict')
    defaults.modes = [taker.take('mode', 'ebpf', 'kube-proxy-replacement')];
  const algorithm = value('bpf-lb-algorithm');
  if (algorithm === 'random' || algorithm === 'maglev') {
    ebpf.algorithm = taker.take('algorithm', algorithm, 'bpf-lb-algorithm');
  }
  const size = value('bpf-lb-maglev-table-size');
  if (/^\d+$/.test(size)) {
    ebpf.maglevTableSize = taker.take('maglevTableSize', Number(size), 'bpf-lb-maglev-table-size');
  }
  const mode = value('bpf-lb-mode');
  if (mode === 'snat' || mode === 'dsr') ebpf.loadBalancerMode = taker.take('loadBalancerMode', mode, 'bpf-lb-mode');
  else if (mode !== '') taker.warn('bpf-lb-mode', `${mode} is not modelled; snat is used`);
  const flags = [
    ['socketLB', 'bpf-lb-sock'],
    ['externalClusterIP', 'bpf-lb-external-clusterip'],
    ['sctp', 'enable-sctp'],
  ] as const;
  for (const [option, key] of flags) {
    const flag = value(key);
    if (flag === 'true' || flag === 'false') ebpf[option] = taker.take(option, flag === 'true', key);
  }
  if (Object.keys(ebpf).length > 0) defaults.ebpf = ebpf;
}

/** Answers null where the text holds an alias, which no KubeProxyConfiguration needs. */
function toPlain(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    if (error instanceof ReferenceError) return null;
    throw error;
  }
}

function at(root: unknown, path: readonly string[]): unknown {
  let part: unknown = root;
  for (const key of path) {
    if (typeof part !== 'object' || part === null || !Object.hasOwn(part, key)) return undefined;
    part = Reflect.get(part, key);
  }
  return part;
}
