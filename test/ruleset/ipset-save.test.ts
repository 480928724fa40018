/**
 * The reader of `ipset save` against the writer, and both against the real ipset: what is written is restored in a network
 * namespace, saved there and read back.
 */

import { spawnSync } from 'node:child_process';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../control/src/cluster/problem.ts';
import { dimensionsOf, IPSET_TYPES, type Ipset, type IpsetPart } from '../../control/src/compile/ipset.ts';
import { ipsetLines } from '../../control/src/compile/ipset-text.ts';
import { type Family, makePrefix, type Words } from '../../control/src/model/address.ts';
import { isIpsetSave, parseIpsetSave } from '../../control/src/ruleset/ipset-save.ts';
import { seeded } from '../compile/random-cluster.ts';

const UNSHARE = process.getuid?.() === 0 ? '-n' : '-rn';
const hasIpset = spawnSync('unshare', [UNSHARE, 'ipset', 'create', 'x', 'hash:ip,port,net']).status === 0;
if (!hasIpset) {
  if (process.env['FLATPATH_REQUIRE_ALL'] === '1') throw new Error('ipset in a network namespace is missing');
  console.log('skipped: ipset in a network namespace is missing');
}

/** What the real tool saves after restoring this. */
function throughKernel(text: string): string {
  const script = 'ipset restore && ipset save';
  const { status, stdout, stderr } = spawnSync('unshare', [UNSHARE, 'sh', '-c', script], {
    input: text,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`${stderr}\n${text}`);
  return stdout;
}

// ---- random sets ----------------------------------------------------------------------------------------------------

const word = fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff });
const words = (family: Family): fc.Arbitrary<Words> =>
  fc.tuple(word, word, word, word).map(([a, b, c, d]) => (family === 4 ? [a | 0x0a00_0000, 0, 0, 0] : [a, b, c, d]));

function prefixPart(family: Family, isNet: boolean): fc.Arbitrary<IpsetPart> {
  const bits = family === 4 ? 32 : 128;
  const length = isNet ? fc.oneof(fc.constant(bits), fc.integer({ min: 1, max: bits })) : fc.constant(bits);
  return fc.tuple(words(family), length).map(([address, n]) => ({
    kind: 'prefix',
    prefix: { ...makePrefix(family, address, n), hostBits: false },
  }));
}

const port = fc.integer({ min: 1, max: 65535 });

function portPart(isBitmap: boolean): fc.Arbitrary<IpsetPart> {
  const protocol = isBitmap ? fc.constant(null) : fc.constantFrom(6, 17, 132, 136);
  return fc
    .tuple(protocol, port)
    .map(([number, value]) => ({ kind: 'port', protocol: number, first: value, last: value }));
}

const randomSet = (index: number): fc.Arbitrary<Ipset> =>
  fc.tuple(fc.constantFrom(...IPSET_TYPES), fc.constantFrom<Family>(4, 6)).chain(([type, given]) => {
    const isBitmap = type === 'bitmap:port';
    const family = isBitmap ? 4 : given;
    const parts = dimensionsOf(type).map((dimension) =>
      dimension === 'port' ? portPart(isBitmap) : prefixPart(family, dimension === 'net'),
    );
    const element = fc
      .tuple(fc.tuple(...parts), fc.boolean())
      .map(([made, nomatch]) => ({ parts: made, nomatch: nomatch && type.includes('net'), sources: [] }));
    return fc
      .uniqueArray(element, { maxLength: 8, selector: (made) => JSON.stringify(made.parts) })
      .map((elements) => ({
        name: `SET-${index}`,
        type,
        family,
        range: isBitmap ? { first: 0, last: 65535 } : null,
        elements,
      }));
  });

const randomSets = fc
  .integer({ min: 1, max: 6 })
  .chain((count) => fc.tuple(...Array.from({ length: count }, (_, i) => randomSet(i))));

/** Without lines, elements in order: the kernel saves a hash in its own. */
function normal(sets: readonly Ipset[]): unknown {
  return sets.map(({ name, type, family, range, elements }) => {
    const texts = elements.map(({ parts, nomatch }) => JSON.stringify({ parts, nomatch }));
    return { name, type, family, range, elements: texts.sort() };
  });
}

describe('ipset save', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(randomSets, (sets) => {
        const text = sets.flatMap(ipsetLines).join('\n');
        expect(isIpsetSave(text)).toBe(true);
        const parsed = parseIpsetSave('sets', text);
        expect(parsed.notUnderstood).toEqual([]);
        expect(normal(parsed.sets)).toEqual(normal(sets));
      }),
      seeded(200),
    );
  });

  it.skipIf(!hasIpset)('comes back the same through the real ipset', () => {
    fc.assert(
      fc.property(randomSets, (sets) => {
        const saved = parseIpsetSave('sets', throughKernel(`${sets.flatMap(ipsetLines).join('\n')}\n`));
        expect(normal(saved.sets)).toEqual(normal(sets));
      }),
      seeded(25),
    );
  });

  it.skipIf(!hasIpset)('of a real node is read with all its options', () => {
    const saved = throughKernel(`create KUBE-CLUSTER-IP hash:ip,port family inet comment
add KUBE-CLUSTER-IP 10.96.0.1,tcp:443 comment "default/kubernetes:https cluster IP"
add KUBE-CLUSTER-IP 10.96.0.10,udp:53
create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
add KUBE-NODE-PORT-TCP 30000-30002
create KUBE-6-CLUSTER-IP hash:ip,port family inet6
add KUBE-6-CLUSTER-IP fd00:10:96::1,tcp:443
create cali40all-ipam-pools hash:net family inet maxelem 1048576
add cali40all-ipam-pools 10.244.0.0/16
add cali40all-ipam-pools 10.244.9.0/24 nomatch
create kube-router-pods hash:ip timeout 0 counters skbinfo
add kube-router-pods 10.1.2.3 timeout 0
create cali40ports hash:ip,port
add cali40ports 10.1.2.3,icmp:echo-request
add cali40ports 10.1.2.3,sctp:5000
add cali40ports 10.1.2.3,tcp:http
`);
    const { sets, notUnderstood } = parseIpsetSave('node.ipset', saved);
    expect(notUnderstood).toEqual([]);
    const texts = sets.map((set) => set.elements.map(({ parts }) => parts.map(partText).join(',')).sort());
    expect(sets.map(({ name }) => name)).toEqual([
      'KUBE-CLUSTER-IP',
      'KUBE-NODE-PORT-TCP',
      'KUBE-6-CLUSTER-IP',
      'cali40all-ipam-pools',
      'kube-router-pods',
      'cali40ports',
    ]);
    expect(texts).toEqual([
      ['10.96.0.1/32,6:443-443', '10.96.0.10/32,17:53-53'],
      ['null:30000-30000', 'null:30001-30001', 'null:30002-30002'],
      ['fd00:10:96::1/128,6:443-443'],
      ['10.244.0.0/16', '10.244.9.0/24'],
      ['10.1.2.3/32'],
      ['10.1.2.3/32,132:5000-5000', '10.1.2.3/32,1:2048-2048', '10.1.2.3/32,6:80-80'],
    ]);
    expect(sets[3]!.elements.filter(({ nomatch }) => nomatch).length).toBe(1);
    const line = saved.split('\n').findIndex((text) => text.startsWith('add KUBE-6')) + 1;
    expect(sets[2]!.elements[0]!.sources).toEqual([{ file: 'node.ipset', line }]);
  });

  it('names what it does not understand, and knows no such set', () => {
    const text = `create nets hash:net,iface family inet
add nets 10.0.0.0/8,eth0
create masked hash:ip netmask 24
create list list:set size 8
create good hash:ip
add good 10.0.0.1`;
    const { sets, notUnderstood } = parseIpsetSave('x', text);
    expect(sets.map(({ name }) => name)).toEqual(['good']);
    expect(notUnderstood.map(({ line, message }) => `${line}: ${message}`)).toEqual([
      "1: flatpath does not know sets of type 'hash:net,iface'",
      "3: flatpath does not know the option 'netmask' of a set",
      "4: flatpath does not know sets of type 'list:set'",
    ]);
  });

  it('lists every line that does not fit', () => {
    const text = `create a hash:ip,port
create a hash:ip
add b 10.0.0.1
add a 10.0.0.1
add a 10.0.0.1,tcp:99999
add a fd00::1,tcp:80
add a 10.0.0.1,icmp:nonsense
add a 0.0.0.0/0,tcp:1
destroy a`;
    expect(() => parseIpsetSave('node.ipset', text)).toThrow(InputError);
    try {
      parseIpsetSave('node.ipset', text);
    } catch (error) {
      expect(String(error).split('\n')).toEqual([
        "InputError: node.ipset:2: set 'a' is created twice",
        "node.ipset:3: there is no set 'b' to add to: its create line comes first",
        "node.ipset:4: '10.0.0.1' has not the 2 parts of hash:ip,port",
        "node.ipset:5: '99999' is no port and no range of ports",
        "node.ipset:6: 'fd00::1' is no IPv4 address or network",
        "node.ipset:7: 'nonsense' is no ICMP type: a name, or type/code",
        "node.ipset:8: '0.0.0.0/0' is a network of length 0, which no set can hold",
        "node.ipset:9: 'destroy' is not what ipset save prints: create or add",
      ]);
    }
  });
});

function partText(part: IpsetPart): string {
  return part.kind === 'prefix' ? part.prefix.text : `${part.protocol}:${part.first}-${part.last}`;
}
