/** The datapath of fixture.ts in the ipvs mode: virtual servers, sets and rules as a test gives them. */
import { type Datapath, MODE_IPVS } from '../../engine/src/programs/datapath.ts';
import {
  IPVS_KUBE_PROXY_OPTIONS,
  IPVS_TCP_FIN_TIMEOUT_MS,
  IPVS_TCP_TIMEOUT_MS,
  IPVS_UDP_TIMEOUT_MS,
  makeIpvsImage,
} from '../../engine/src/programs/ipvs-image.ts';
import { createIpvsState } from '../../engine/src/programs/ipvs-state.ts';
import { IpSetsBuilder, SET_ADDRESS, type SetElement } from '../../engine/src/tables/ipset.ts';
import {
  IpvsServicesBuilder,
  type RealServerRow,
  SCHED_RR,
  type VirtualServerRow,
} from '../../engine/src/tables/ipvs-services.ts';
import { PROTO_TCP } from '../../engine/src/wire/tcp.ts';
import { type Address, isFour, words } from './addresses.ts';
import { buildDatapath, type DatapathOptions } from './fixture.ts';
import { ruleList } from './rules.ts';

export interface RealServer {
  readonly address: Address;
  readonly port: number;
  readonly weight?: number;
  readonly lastWeight?: number;
  readonly upper?: number;
  readonly lower?: number;
}

export interface VirtualServer {
  readonly address: Address;
  readonly port: number;
  /** TCP unless given. */
  readonly proto?: number;
  readonly mark?: number;
  readonly scheduler?: number;
  readonly flags?: number;
  readonly timeoutMs?: number;
  readonly netmask?: number;
  /** The nodes that have it; all unless given. */
  readonly nodes?: readonly number[];
  /** In the order in which they were added. */
  readonly reals: readonly RealServer[];
}

export interface IpvsOptions extends DatapathOptions {
  readonly servers?: readonly VirtualServer[];
  /** Addresses of kube-ipvs0; those of the virtual servers unless given. */
  readonly bound?: readonly Address[];
  /** Sets from id 2 on, which rules may ask: type, family (0: any), elements. On all nodes. */
  readonly sets?: readonly {
    readonly type: number;
    readonly family: number;
    readonly elements: readonly SetElement[];
  }[];
  readonly options?: number;
}

/** Ids that stay the same from image to image: of a virtual server and of its real servers. */
function idOf(text: string): number {
  let id = 17;
  for (const letter of text) id = (Math.imul(id, 31) + letter.charCodeAt(0)) & 0x7fffffff;
  return id;
}

function realRow(
  server: string,
  { address, port, weight = 1, lastWeight, upper = 0, lower = 0 }: RealServer,
): RealServerRow {
  const id = idOf(`${server} ${address} ${port}`);
  return { id, address: words(address), port, weight, lastWeight: lastWeight ?? weight, upper, lower };
}

/** Puts virtual servers, sets and rules under a datapath; its connections stay. */
export function setIpvs(dp: Datapath, options: IpvsOptions): void {
  const { servers = [], sets = [], conntrackMax = 131_072, routeLocalnet = false, tcpBeLiberal = true } = options;
  const builder = new IpvsServicesBuilder();
  for (const server of servers) {
    const { address, port, proto = PROTO_TCP, mark = 0, scheduler = SCHED_RR, flags = 0, timeoutMs = 0 } = server;
    const family = isFour(address) ? 4 : 6;
    const name = `${address} ${port} ${proto} ${mark}`;
    const row: VirtualServerRow = {
      id: idOf(name),
      scheduler,
      flags,
      timeoutMs,
      netmask: server.netmask ?? (family === 4 ? 32 : 128),
      family,
      port: mark === 0 ? port : 0,
      mark,
      realServers: server.reals.map((real) => realRow(name, real)),
    };
    const key =
      mark === 0
        ? { family, address: words(address), port, proto }
        : { family, address: [mark, 0, 0, 0], port: 0, proto: 0 };
    const made = builder.server(row);
    if (server.nodes === undefined) builder.listen(key, made.row);
    else for (const node of server.nodes) builder.listenOn(node, key, made.row);
  }
  const bound = options.bound ?? servers.map(({ address }) => address);
  const local = new IpSetsBuilder(2, 2 + sets.length);
  const instances = [4, 6].map((family) =>
    local.instance(SET_ADDRESS, family, bound.filter((a) => isFour(a) === (family === 4)).map(elementOf)),
  );
  instances.push(...sets.map(({ type, family, elements }) => local.instance(type, family, elements)));
  for (const node of [0, 1]) {
    instances.forEach((instance, set) => {
      local.place(node, set, instance);
    });
  }
  const none = ruleList(2, {}, []);
  dp.ipvs = makeIpvsImage({
    services: builder.build(),
    sets: local.build(),
    rules4: options.rules4 ?? none,
    rules6: options.rules6 ?? none,
    localSet4: 0,
    localSet6: 1,
    options: options.options ?? IPVS_KUBE_PROXY_OPTIONS,
    tcpTimeoutMs: IPVS_TCP_TIMEOUT_MS,
    tcpFinTimeoutMs: IPVS_TCP_FIN_TIMEOUT_MS,
    udpTimeoutMs: IPVS_UDP_TIMEOUT_MS,
    conntrackMax,
    tcpBeLiberal,
    routeLocalnet,
    recentLists: 4,
  });
}

/** An element of a set of whole addresses. */
export function elementOf(address: Address, id: number): SetElement {
  return {
    id,
    address1: words(address),
    length1: isFour(address) ? 32 : 128,
    proto: 0,
    port: 0,
    address2: [0, 0, 0, 0],
    length2: 0,
    nomatch: false,
  };
}

export function buildIpvsDatapath(options: IpvsOptions): Datapath {
  const { flows = 1024, shards = 1 } = options;
  const dp: Datapath = {
    ...buildDatapath(options),
    mode: MODE_IPVS,
    iptables: null,
    ipvsState: createIpvsState(flows, shards),
  };
  setIpvs(dp, options);
  return dp;
}
