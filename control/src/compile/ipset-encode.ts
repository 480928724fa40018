/**
 * ipsets as the engine's table (tables/ipset.ts): a set id for each name, an instance for each content, an element id for
 * each element. Nodes that have one set object share its instance.
 */

import {
  type IpSets,
  IpSetsBuilder,
  SET_ADDRESS,
  SET_ADDRESS_PORT,
  SET_ADDRESS_PORT_ADDRESS,
  SET_BITMAP_PORT,
  type SetElement,
} from '@flatpath/engine/tables/ipset';
import type { Ipset, IpsetElement, IpsetType } from './ipset.ts';

const TYPE_NUMBER: Readonly<Record<IpsetType, number>> = {
  'bitmap:port': SET_BITMAP_PORT,
  'hash:ip': SET_ADDRESS,
  'hash:net': SET_ADDRESS,
  'hash:ip,port': SET_ADDRESS_PORT,
  'hash:net,port': SET_ADDRESS_PORT,
  'hash:ip,port,ip': SET_ADDRESS_PORT_ADDRESS,
  'hash:ip,port,net': SET_ADDRESS_PORT_ADDRESS,
};
const NO_ADDRESS: readonly number[] = [0, 0, 0, 0];

/** Collects the sets of nodes. */
export class IpsetEncoder {
  readonly names: string[] = [];
  /** By element id. */
  readonly elements: { readonly set: Ipset; readonly element: IpsetElement }[] = [];
  private readonly ids = new Map<string, number>();
  private readonly instances = new Map<Ipset, number>();
  private readonly contents: { readonly set: Ipset; readonly elements: readonly SetElement[] }[] = [];
  private readonly placed: { readonly node: number; readonly set: number; readonly instance: number }[] = [];

  add(node: number, set: Ipset): void {
    let id = this.ids.get(set.name);
    if (id === undefined) {
      id = this.names.length;
      this.ids.set(set.name, id);
      this.names.push(set.name);
    }
    this.placed.push({ node, set: id, instance: this.instanceOf(set) });
  }

  /**
   * Number of a set by its name.
   * @throws RangeError for a set that no node has
   */
  setId(name: string): number {
    const id = this.ids.get(name);
    if (id === undefined) throw new RangeError(`there is no ipset '${name}'`);
    return id;
  }

  build(nodes: number): IpSets {
    const builder = new IpSetsBuilder(nodes, this.names.length);
    for (const { set, elements } of this.contents) {
      builder.instance(TYPE_NUMBER[set.type], set.type === 'bitmap:port' ? 0 : set.family, elements);
    }
    for (const { node, set, instance } of this.placed) builder.place(node, set, instance);
    return builder.build();
  }

  private instanceOf(set: Ipset): number {
    let instance = this.instances.get(set);
    if (instance === undefined) {
      instance = this.contents.length;
      this.instances.set(set, instance);
      const elements: SetElement[] = [];
      for (const element of set.elements) this.pushElement(set, element, elements);
      this.contents.push({ set, elements });
    }
    return instance;
  }

  /** An element of the engine is one port: a range is as many. */
  private pushElement(set: Ipset, element: IpsetElement, elements: SetElement[]): void {
    const id = this.elements.length;
    this.elements.push({ set, element });
    const prefixes = element.parts.flatMap((part) => (part.kind === 'prefix' ? [part.prefix] : []));
    const ports = element.parts.find((part) => part.kind === 'port');
    const [first, second] = prefixes;
    const { nomatch } = element;
    for (let port = ports?.first ?? 0; port <= (ports?.last ?? 0); port++) {
      elements.push({
        id,
        address1: first?.words ?? NO_ADDRESS,
        length1: first?.length ?? 0,
        proto: ports?.protocol ?? 0,
        port,
        address2: second?.words ?? NO_ADDRESS,
        length2: second?.length ?? 0,
        nomatch,
      });
    }
  }
}
