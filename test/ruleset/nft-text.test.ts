/** The readers of nft's text and JSON on literal dumps: what single rules mean, what is named, what is refused. */

import { describe, expect, it } from 'vitest';
import type { NftRule, NftStatement } from '../../control/src/compile/nft-ruleset.ts';
import { parseNftJson } from '../../control/src/ruleset/nft-json.ts';
import type { ParsedNft } from '../../control/src/ruleset/nft-parsed.ts';
import { parseNftText } from '../../control/src/ruleset/nft-text.ts';

/** Reads rules of one chain of `table ip t`. */
function read(...rules: readonly string[]): ParsedNft {
  return parseNftText(
    'x.nft',
    `table ip t {\n\tset s { type ipv4_addr; flags timeout; }\n\tchain a { }\n\tchain c {\n${rules.join('\n')}\n\t}\n}\n`,
  );
}

function chainRules({ ruleset }: ParsedNft): readonly NftRule[] {
  return ruleset.tables[0]!.chains.find(({ name }) => name === 'c')!.rules;
}

/** The statements of one rule. */
function statements(rule: string): readonly NftStatement[] {
  return chainRules(read(rule))[0]!.statements;
}

const named = ({ notUnderstood }: ParsedNft) =>
  notUnderstood.map(({ line, text, message }) => `${line}: ${text} (${message})`);

function problemsOf(parse: () => unknown): string[] {
  try {
    parse();
  } catch (error) {
    return String(error).split('\n');
  }
  return [];
}

const number = (value: number) => ({ kind: 'number', value });

describe('a rule of nft in text', () => {
  it('compares flags by their bits and everything else by value', () => {
    const state = { kind: 'ct', key: 'state', direction: null };
    expect(statements('ct state established,related')).toEqual([
      { kind: 'match', left: state, operator: 'in', right: number(6) },
    ]);
    expect(statements('ct state != new')).toEqual([{ kind: 'match', left: state, operator: '!=', right: number(8) }]);
    expect(statements('ct state { new }')).toEqual([{ kind: 'match', left: state, operator: '==', right: number(8) }]);
    expect(statements('tcp flags ! syn,rst')).toEqual([
      { kind: 'match', left: { kind: 'payload', field: 'tcp flags' }, operator: '!in', right: number(6) },
    ]);
    expect(statements('tcp flags syn / syn,ack')).toEqual([
      {
        kind: 'match',
        left: { kind: 'bitwise', operator: 'and', left: { kind: 'payload', field: 'tcp flags' }, right: number(18) },
        operator: '==',
        right: number(2),
      },
    ]);
  });

  it('reads marks with their masks, old spelling and new', () => {
    const wanted = [
      {
        kind: 'set',
        target: 'meta mark',
        value: {
          kind: 'bitwise',
          operator: 'xor',
          left: { kind: 'bitwise', operator: 'and', left: { kind: 'meta', key: 'mark' }, right: number(0xffff0000) },
          right: number(5),
        },
      },
    ];
    expect(statements('meta mark set mark and 0xffff0000 xor 0x5')).toEqual(wanted);
    expect(statements('meta mark set (meta mark & 0xffff0000) ^ 0x00000005')).toEqual(wanted);
  });

  it('takes a map with a value apart: address and port', () => {
    const [nat] = statements('dnat ip addr . port to numgen random mod 2 map { 0 : 10.0.0.1 . 80, 1 : 10.0.0.2 . 81 }');
    expect(nat).toMatchObject({
      kind: 'dnat',
      family: 'ip',
      address: { kind: 'lookup', key: { kind: 'numgen', mode: 'random', modulus: 2, offset: 0 } },
    });
    expect(statements('dnat to ip saddr map { 10.0.0.1 : 10.1.0.1 }:8080')[0]).toMatchObject({
      ports: { first: 8080, last: 8080 },
    });
  });

  it('finds the fraction behind a chance of so many in 2^31', () => {
    const chance = (rule: string) => statements(rule)[0];
    expect(chance('meta random & 2147483647 < 1073741824')).toMatchObject({ left: { modulus: 2 }, right: number(1) });
    expect(chance('meta random & 2147483647 < 715827883')).toMatchObject({ left: { modulus: 3 }, right: number(1) });
    expect(named(read('meta random & 2147483647 < 12345 accept'))).toEqual([
      '5: meta random & 2147483647 < 12345 accept (a chance of 12345 in 2147483648 has too many branches to go through)',
    ]);
  });

  it('is true under a limit and never beyond one', () => {
    expect(statements('limit rate 10/second burst 5 packets')[0]!.kind).toBe('limit');
    for (const rule of [
      'limit rate over 10/second',
      'ct count over 5',
      'quota over 1 mbytes',
      'add @s { ip saddr limit rate over 1/second }',
    ]) {
      expect(statements(rule)).toEqual([{ kind: 'exceeded', text: rule }]);
    }
  });

  it('keeps what stands before a part that is not understood, and names that part', () => {
    const parsed = read('meta mark set 0x1 ether saddr 00:11:22:33:44:55 accept comment "why"', 'accept');
    expect(chainRules(parsed)[0]).toMatchObject({
      statements: [{ kind: 'set' }, { kind: 'unknown', text: 'ether saddr 00:11:22:33:44:55 accept comment "why"' }],
      comment: 'why',
      sources: [{ file: 'x.nft', line: 5 }],
    });
    expect(named(parsed)).toEqual([
      '5: ether saddr 00:11:22:33:44:55 accept comment "why" (flatpath does not know \'ether saddr\')',
    ]);
  });

  it('says what is wrong with a value', () => {
    const wrong = (rule: string) => read(rule).notUnderstood.map(({ message }) => message);
    expect(wrong('ip saddr 10.0.0.300')).toEqual(["'10.0.0.300' is no IPv4 address"]);
    expect(wrong('ip saddr fd00::1')).toEqual(["'fd00::1' is no IPv4 address"]);
    expect(wrong('ip saddr 10.0.0.0/33')).toEqual(["'10.0.0.0/33' has a length beyond 32"]);
    expect(wrong('tcp dport 70000')).toEqual(["'70000' is no value of type inet_service"]);
    expect(wrong('ct state funny')).toEqual(["'funny' is no value of type ct_state"]);
    expect(wrong('ip saddr . tcp dport { 10.0.0.1 }')).toEqual(['10.0.0.1 is not a key of 2 parts']);
    expect(wrong('reject with icmp wrong')).toEqual(["'wrong' is no code of icmp"]);
    expect(wrong('masquerade sometimes')).toEqual(["flatpath does not know 'sometimes'"]);
    expect(wrong('numgen random mod 0 accept')).toEqual(['mod 0 has no numbers']);
    expect(wrong('tcp dport')).toEqual(['a value is missing']);
    expect(wrong('goto')).toEqual(['the name of a chain is missing']);
  });

  it('never matches where it names what is not there', () => {
    const parsed = read('ip saddr @nothing accept', 'jump nowhere', 'tcp dport vmap { 80 : goto nowhere }');
    expect(parsed.notUnderstood.map(({ line, message }) => `${line}: ${message}`)).toEqual([
      "5: there is no set 'nothing'",
      "6: there is no chain 'nowhere'",
      "7: there is no chain 'nowhere'",
    ]);
    for (const { statements: found } of chainRules(parsed)) expect(found.at(-1)!.kind).toBe('unknown');
  });
});

describe('a ruleset of nft in text', () => {
  it('names sets that are not understood, and the rules that ask them', () => {
    const parsed = parseNftText(
      'x.nft',
      `table ip t {
	set macs {
		type ether_addr
		elements = { 00:11:22:33:44:55 }
	}
	chain c {
		ip saddr @macs accept
		accept
	}
}
`,
    );
    expect(named(parsed)).toEqual([
      "3: set macs (flatpath does not know the type 'ether_addr')",
      "7:  (the set 'macs' is not understood)",
    ]);
  });

  it('takes a set that packets write for dynamic, and leaves out what is left of a life', () => {
    const [table] = parseNftText(
      'x.nft',
      `table ip t {
	set s {
		type ipv4_addr
		flags timeout
		elements = { 10.0.0.1 timeout 1h30m expires 1h29m59s992ms counter packets 1 bytes 60 comment "x" }
	}
	chain c {
		update @s { ip saddr timeout 30s }
	}
}
`,
    ).ruleset.tables;
    expect(table!.sets[0]).toMatchObject({
      flags: ['dynamic', 'timeout'],
      elements: [{ timeoutSeconds: 5400, comment: 'x', sources: [{ file: 'x.nft', line: 5 }] }],
    });
  });

  it('reads named priorities, policies and comments; leaves out what no packet of a cluster meets', () => {
    const { ruleset, skipped } = parseNftText(
      'x.nft',
      `# Warning: table ip t is managed by somebody
table ip t { # handle 1
	comment "a table"
	flags owner,persist
	counter hits {
		packets 1 bytes 2
	}
	flowtable f {
		hook ingress priority filter
		devices = { eth0, eth1 }
	}
	chain c { # handle 2
		comment "a chain"
		type filter hook forward priority filter + 10; policy drop;
		flow add @f
		counter name "hits" accept # handle 3
	}
}
table inet t {
	chain i {
		type filter hook ingress device "eth0" priority -500; policy accept;
		drop
	}
}
table netdev n {
	chain { whatever } }
`,
    );
    expect(ruleset.tables[0]).toMatchObject({
      comment: 'a table',
      chains: [
        {
          comment: 'a chain',
          base: { type: 'filter', hook: 'forward', priority: 10, policy: 'drop' },
          rules: [
            { statements: [{ kind: 'ignored', text: 'flow add @f' }] },
            { statements: [{ kind: 'counter' }, { kind: 'verdict' }] },
          ],
        },
      ],
    });
    expect(skipped).toEqual(['chain i of table inet t', 'table netdev n']);
  });

  it('refuses what is no list of tables, every place of it', () => {
    expect(problemsOf(() => parseNftText('x.nft', 'flush ruleset\n'))).toEqual([
      "InputError: x.nft:1: 'flush' begins no table; expected is what 'nft list ruleset' prints",
    ]);
    expect(problemsOf(() => parseNftText('x.nft', 'table ip t {\n\tchain c {\n'))).toEqual([
      "InputError: x.nft:1: '{' is never closed",
      "x.nft:2: '{' is never closed",
    ]);
    expect(
      problemsOf(() =>
        parseNftText(
          'x.nft',
          `table ip t {
	chain c {
		type wrong hook input priority 0;
	}
	thing x {
		y
	}
	chain d {
		type filter hook input priority soon;
	}
}
table ip t {
}
`,
        ),
      ),
    ).toEqual([
      "InputError: x.nft:3: 'wrong' is no type of a chain",
      "x.nft:5: 'thing' is no part of a table",
      "x.nft:9: 'soon' is no priority",
      'x.nft:13: table ip t is there twice',
    ]);
  });
});

describe('a ruleset of nft in JSON', () => {
  const rule = (expr: unknown) =>
    JSON.stringify(
      {
        nftables: [
          { metainfo: { version: '1.0.6' } },
          { table: { family: 'ip', name: 't' } },
          { chain: { family: 'ip', table: 't', name: 'c' } },
          { rule: { family: 'ip', table: 't', chain: 'c', expr } },
        ],
      },
      null,
      1,
    );

  it('names what is not understood by its path and the line of its object', () => {
    const text = rule([{ accept: null }, { queue: { num: 1 } }]);
    const { notUnderstood } = parseNftJson('x.json', text);
    const line = text.split('\n').findIndex((part) => part.includes('"rule"'));
    expect(notUnderstood).toEqual([
      {
        file: 'x.json',
        line,
        path: 'nftables[3].rule.expr[1]',
        text: '{"queue":{"num":1}}',
        message: "flatpath does not know the statement 'queue'",
      },
    ]);
  });

  it('reads what newer versions write in other ways', () => {
    const flags = { payload: { protocol: 'tcp', field: 'flags' } };
    const { ruleset, notUnderstood } = parseNftJson(
      'x.json',
      rule([
        { match: { op: '==', left: { '&': [flags, { '|': ['fin', 'syn', 'rst', 'ack'] }] }, right: 'syn' } },
        { reject: null },
      ]),
    );
    expect(notUnderstood).toEqual([]);
    expect(ruleset.tables[0]!.chains[0]!.rules[0]!.statements).toEqual([
      {
        kind: 'match',
        left: { kind: 'bitwise', operator: 'and', left: { kind: 'payload', field: 'tcp flags' }, right: number(23) },
        operator: '==',
        right: number(2),
      },
      { kind: 'reject', with: { type: 'icmp', code: 3 } },
    ]);
  });

  it('refuses what is no ruleset', () => {
    expect(problemsOf(() => parseNftJson('x.json', '{"nftables": [}'))).toEqual([
      `InputError: x.json:1: is not JSON: "}" where a value or ']' should be`,
    ]);
    expect(problemsOf(() => parseNftJson('x.json', '{}'))).toEqual([
      "InputError: x.json:1: there is no list 'nftables', which 'nft -j list ruleset' prints",
    ]);
    const wrong = JSON.stringify({
      nftables: [
        { rule: { family: 'ip', table: 't', chain: 'c', expr: [] } },
        { thing: {} },
        7,
        { table: { family: 'ip' } },
      ],
    });
    expect(problemsOf(() => parseNftJson('x.json', wrong))).toEqual([
      'InputError: x.json:1: nftables[0]: table ip t is not there',
      "x.json:1: nftables[1]: 'family' is missing or no text",
      'x.json:1: nftables[2]: 7 is no part of a ruleset',
      "x.json:1: nftables[3]: 'name' is missing or no text",
    ]);
  });
});
