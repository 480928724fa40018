import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readJson } from '../../control/src/cluster/json-documents.ts';
import { loadCluster } from '../../control/src/cluster/load.ts';
import { SourceText } from '../../control/src/cluster/source-text.ts';
import { readYaml } from '../../control/src/cluster/yaml-documents.ts';
import { describeOrigin, joinField, originOf } from '../../control/src/model/origin.ts';
import { errorsOf, loadText, seed, warningsOf } from './support.ts';

const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

describe('Helm output', () => {
  const result = loadCluster([fixture('helm.yaml')]);
  const { cluster } = result;

  it('becomes pods, addresses and slices', () => {
    expect(warningsOf(result)).toEqual([
      'Pod shop/release-cart-test-connection metadata.annotations: is left out: a Helm test exists only while `helm test` runs',
    ]);
    expect(cluster.unmodelled).toEqual([{ apiVersion: 'v1', kind: 'ServiceAccount', count: 1 }]);
    expect(cluster.pods).toHaveLength(2);
    const [slice, ...rest] = cluster.endpointSlices;
    expect(rest).toEqual([]);
    expect(slice!.endpoints).toHaveLength(2);
    expect(slice!.ports).toEqual([
      { name: 'grpc', protocol: 'TCP', port: 7070 },
      { name: 'metrics', protocol: 'TCP', port: 9464 },
    ]);
  });

  it('keeps lines, through anchors, merge keys and block text', () => {
    const at = (field: string): string =>
      describeOrigin(originOf(cluster.services[0]!, field)).replace(fixture(''), '');
    expect(at('')).toBe('Service shop/release-cart (helm.yaml:17)');
    expect(at('spec.ports[1].port')).toBe('Service shop/release-cart spec.ports[1].port (helm.yaml:34)');
    expect(at('spec.ports[1].protocol')).toBe('Service shop/release-cart spec.ports[1].protocol (helm.yaml:34)');
    expect(at('metadata.labels["app.kubernetes.io/name"]')).toMatch(/\(helm\.yaml:24\)$/);
    const pod = cluster.pods.find(({ metadata }) => metadata.ownerReferences !== undefined)!;
    const podAt = (field: string): string => describeOrigin(originOf(pod, field)).replace(fixture(''), '');
    expect(podAt('spec.containers[0].ports[1].containerPort')).toBe(
      'Deployment shop/release-cart spec.template.spec.containers[0].ports[1].containerPort (helm.yaml:71)',
    );
    expect(podAt('metadata.labels["app.kubernetes.io/name"]')).toMatch(
      /^Deployment shop\/release-cart spec\.template\.metadata\.labels\["app\.kubernetes\.io\/name"\] \(helm\.yaml:5\d\)$/,
    );
    expect(podAt('status.podIP')).toMatch(/^Deployment shop\/release-cart spec\.template \(helm\.yaml:5\d\)$/);
  });
});

it('takes Kustomize output', () => {
  const { cluster } = loadCluster([fixture('kustomize.yaml')]);
  expect(cluster.pods.map(({ metadata }) => metadata.name)).toEqual(['payment-0', 'payment-1', 'payment-2']);
  expect(cluster.services[0]!.spec.clusterIPs).toHaveLength(2);
  expect(cluster.endpointSlices.map(({ addressType }) => addressType).sort()).toEqual(['IPv4', 'IPv6']);
  expect(cluster.endpointSlices[0]!.endpoints.map(({ hostname }) => hostname)).toEqual([
    'payment-0',
    'payment-1',
    'payment-2',
  ]);
  expect(cluster.namespaces.map(({ metadata }) => metadata.labels)).toEqual([
    { team: 'payments', 'kubernetes.io/metadata.name': 'payments' },
  ]);
  expect(cluster.unmodelled).toEqual([{ apiVersion: 'networking.k8s.io/v1', kind: 'Ingress', count: 1 }]);
});

describe('a dump of kubectl get -A -o yaml', () => {
  const result = loadCluster([fixture('dump.yaml')]);
  const { cluster } = result;

  it('is taken as it is: nothing is made that is there', () => {
    expect(result.warnings).toEqual([]);
    expect(cluster.pods.map(({ metadata, status }) => [metadata.name, status.podIP])).toEqual([
      ['job-done-x2x9p', ''],
      ['web-6d4cf56db6-4pr9t', '10.244.1.4'],
    ]);
    expect(cluster.endpointSlices.map(({ metadata }) => metadata.name)).toEqual(['web-8xk2m']);
    expect(cluster.services[0]!.spec).toMatchObject({ clusterIPs: ['10.96.120.7'], ports: [{ nodePort: 31234 }] });
    expect(cluster.nodes.map(({ spec }) => spec.podCIDRs)).toEqual([['10.244.1.0/24']]);
    expect(cluster.unmodelled).toEqual([{ apiVersion: 'v1', kind: 'Event', count: 2 }]);
  });

  it('keeps the lines of a List’s items', () => {
    const { line } = originOf(cluster.endpointSlices[0]!, 'endpoints[0].addresses[0]');
    expect(line).toBe(183);
  });

  it('gets one warning where it has Pods but no EndpointSlices, NetworkPolicies or Nodes', () => {
    const warning =
      'the dump holds Pods but no EndpointSlices, NetworkPolicies or Nodes; `kubectl get all` leaves these out. ' +
      'See the README for the command that dumps everything';
    const pods = loadCluster([fixture('pods.json')]);
    expect(warningsOf(pods)).toEqual([warning]);
    const list = (items: string): string => `apiVersion: v1\nkind: List\nitems:\n${items}`;
    const pod = '- {apiVersion: v1, kind: Pod, metadata: {name: a, uid: x}}\n';
    expect(warningsOf(loadText(list(pod)))).toEqual([warning]);
    expect(warningsOf(loadText(list(`${pod}- {apiVersion: v1, kind: Node, metadata: {name: n1}}\n`)))).toEqual([]);
    const policy =
      '- {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: np}, spec: {podSelector: {}}}\n';
    expect(warningsOf(loadText(list(pod + policy)))).toEqual([]);
    // Pods that somebody wrote are no dump.
    expect(warningsOf(loadText('{apiVersion: v1, kind: Pod, metadata: {name: a}}'))).toEqual([]);
  });
});

it('takes typed lists without kinds in their items, and JSON', () => {
  const { cluster } = loadCluster([fixture('pods.json')]);
  expect(cluster.pods.map(({ metadata, status }) => [metadata.name, status.podIP])).toEqual([['a', '10.0.0.5']]);
  expect(originOf(cluster.pods[0]!, 'status.podIPs[0].ip')).toMatchObject({ line: 9 });
  expect(cluster.nodes.map(({ metadata }) => metadata.name)).toEqual(['n1']);
});

describe('a folder', () => {
  it('is read with all below it; files of other tools are passed over with a warning', () => {
    const result = loadCluster([fixture('folder')]);
    expect(result.files.map((file) => file.replace(`${fixture('folder')}/`, ''))).toEqual([
      'base/kustomization.yaml',
      'base/service.yaml',
      'charts/Chart.yaml',
      'charts/values-prod.yaml',
      'package.json',
      'pod.json',
      'test.yaml',
    ]);
    expect(warningsOf(result)).toEqual(Array(4).fill('document 1: is skipped: it has no kind'));
    expect(result.cluster.endpointSlices[0]!.endpoints).toHaveLength(1);
  });

  it('is the same as its files', () => {
    const files = ['base/service.yaml', 'pod.json'].map((name) => fixture(`folder/${name}`));
    expect(JSON.stringify(loadCluster(files).cluster.endpointSlices)).toBe(
      JSON.stringify(loadCluster([fixture('folder')]).cluster.endpointSlices),
    );
    // Named by the user, such a file is an error.
    const [line] = errorsOf('replicaCount: 1');
    expect(line).toMatch(/kind: is required$/);
  });

  it('follows links once and leaves hidden folders out', () => {
    const folder = mkdtempSync(join(tmpdir(), 'flatpath-'));
    mkdirSync(join(folder, '.git'));
    mkdirSync(join(folder, 'node_modules'));
    for (const hidden of ['.git/a.yaml', 'node_modules/b.yaml', '.c.yaml']) writeFileSync(join(folder, hidden), 'x: [');
    writeFileSync(join(folder, 'd.yml'), '{apiVersion: v1, kind: Namespace, metadata: {name: a}}');
    expect(loadCluster([folder, folder]).cluster.namespaces).toHaveLength(1);
  });
});

it('tells an explicitly named empty file', () => {
  expect(warningsOf(loadText('# nothing\n---\n'))).toEqual(['holds no object']);
  expect(warningsOf(loadText({ 'a.json': ' \n' }))).toEqual(['holds no object']);
});

it('counts documents as they stand in the file', () => {
  expect(errorsOf('# a\n---\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: a}}\n---\nkind: X\n')).toEqual([
    expect.stringMatching(/^shop\.yaml:6: X \(no name\) apiVersion: is required$/),
  ]);
});

describe('words that YAML 1.1 takes for booleans', () => {
  it('are booleans where one is wanted', () => {
    const { cluster, warnings } = loadText(
      'apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}], publishNotReadyAddresses: yes}',
    );
    expect(cluster.services[0]!.spec.publishNotReadyAddresses).toBe(true);
    expect(warnings).toEqual([]);
  });

  it('are words, with a warning, where text is wanted', () => {
    const result = loadText(
      'apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {legacy: on, quoted: "off", country: NO}}',
    );
    expect(result.cluster.pods[0]!.metadata.labels).toEqual({ legacy: 'on', quoted: 'off', country: 'NO' });
    expect(warningsOf(result)).toEqual([
      'Pod default/a metadata.labels.legacy: unquoted on is a boolean to kubectl; put it in quotes',
      'Pod default/a metadata.labels.country: unquoted NO is a boolean to kubectl; put it in quotes',
    ]);
  });

  it('are text in quotes', () => {
    expect(
      errorsOf(
        'apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}], publishNotReadyAddresses: "yes"}',
      ),
    ).toEqual(['shop.yaml:4: Service default/a spec.publishNotReadyAddresses: "yes" is text, not true or false']);
  });
});

describe('YAML and JSON readers', () => {
  const key = fc.oneof(
    fc.string({ minLength: 1, maxLength: 8 }),
    fc.constantFrom('a', 'constructor', 'b.c', 'd"e', 'x: y', '1'),
  );
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      fc.string({ maxLength: 20 }),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('tree'), { maxLength: 4 }),
      fc.dictionary(key, tie('tree'), { maxKeys: 4, noNullPrototype: true }),
    ),
  }));
  const document = fc.dictionary(key, tree, { minKeys: 1, maxKeys: 5, noNullPrototype: true });

  it('agree on every JSON text, in values and places', () => {
    fc.assert(
      fc.property(document, fc.integer({ min: 0, max: 3 }), (object, indent) => {
        const source = new SourceText('a', JSON.stringify(object, null, indent));
        const json = readJson(source);
        const yaml = readYaml(source);
        expect(json.problems).toEqual([]);
        expect(yaml.problems).toEqual([]);
        expect(yaml.documents[0]?.value).toEqual(json.documents[0]?.value);
        for (const path of pathsOf(json.documents[0]?.value)) {
          const field = joinField(path);
          const place = json.documents[0]!.placeOf([]).locate(field);
          expect(place, field).toEqual(yaml.documents[0]!.placeOf([]).locate(field));
          expect(json.documents[0]!.placeOf(path).locate('').line).toBe(
            yaml.documents[0]!.placeOf(path).locate('').line,
          );
        }
      }),
      { seed: seed(), numRuns: 200 },
    );
  });

  it('never throw, whatever the text', () => {
    const piece = fc.constantFrom(
      'a',
      ': ',
      '\n',
      '  ',
      '- ',
      '{',
      '}',
      '[',
      ']',
      ',',
      '"',
      "'",
      '&a',
      '*a',
      '<<',
      '|',
      '>',
      '---\n',
      '#',
      '!x',
      '?',
      '\t',
      '\u0000',
      '%',
      '\\',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        const source = new SourceText('a', pieces.join(''));
        readYaml(source);
        readJson(source);
      }),
      { seed: seed(), numRuns: 500 },
    );
  });
});

function pathsOf(value: unknown, path: (string | number)[] = []): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [path];
  const entries: [string | number, unknown][] = Array.isArray(value)
    ? value.map((item, i) => [i, item])
    : Object.entries(value);
  return [...(path.length > 0 ? [path] : []), ...entries.flatMap(([part, child]) => pathsOf(child, [...path, part]))];
}

describe('a List in kubectl’s form', () => {
  const item = (body: string): string => `- ${body.replaceAll('\n', '\n  ')}\n`;
  const pod =
    'apiVersion: v1\nkind: Pod\nmetadata:\n  name: web-NUMBER\n  annotations:\n    note: |\n      - not an item\n\n      items:\nspec:\n  nodeName: n1';
  const items = Array.from({ length: 5 }, (_, i) => item(pod.replace('NUMBER', String(i))));
  const list = (rows: string[]): string =>
    `apiVersion: v1\nitems:\n${rows.join('')}kind: List\nmetadata:\n  resourceVersion: ""\n`;

  it('is read item by item to the same objects and places as a whole', () => {
    // The same list one column further right is not split.
    const whole = list(items.map((row) => row.replace(/^(?=.)/gm, ' ')));
    const split = readYaml(new SourceText('a', list(items))).documents[0]!;
    const read = readYaml(new SourceText('a', whole)).documents[0]!;
    expect(split.value).toEqual({ ...(read.value as object), items: (read.value as { items: unknown[] }).items });
    for (let i = 0; i < items.length; i++) {
      for (const field of ['', 'kind', 'metadata.annotations.note', 'spec.nodeName', 'spec.nothing']) {
        const { line, column } = read.placeOf(['items', i]).locate(field);
        expect(split.placeOf(['items', i]).locate(field), field).toEqual({ line, column: column - 1 });
      }
    }
  });

  it('gives errors their line and object', () => {
    const broken = list([
      items[0]!,
      item('apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports: [{port: 0}]'),
      items[1]!,
    ]);
    expect(errorsOf(broken)).toEqual([
      'shop.yaml:18: Service default/a spec.ports[0].port: 0 is not a port (1 to 65535)',
    ]);
    const twice = list([items[0]!, item('apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nkind: Pod')]);
    expect(errorsOf(twice)).toEqual(['shop.yaml:17: Pod a kind: stands twice in one object']);
    expect(errorsOf(list([items[0]!, '- a: [\n']))[0]).toMatch(/^shop\.yaml:\d+: .*is not YAML/);
  });

  it('may use anchors of other items, and stand in CRLF', () => {
    const rows = [
      item('apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: &l {app: web}}'),
      item('apiVersion: v1\nkind: Pod\nmetadata: {name: b, labels: *l}'),
    ];
    const names = (text: string): unknown[] => loadText(text).cluster.pods.map(({ metadata }) => metadata.labels);
    expect(names(list(rows))).toEqual([{ app: 'web' }, { app: 'web' }]);
    expect(names(list(rows).replaceAll('\n', '\r\n'))).toEqual([{ app: 'web' }, { app: 'web' }]);
  });

  it('may be one document among others', () => {
    expect(loadText(`${list(items.slice(0, 2))}---\n${list(items.slice(2))}`).cluster.pods).toHaveLength(5);
    expect(loadText(`---\n${list(items)}`).cluster.pods).toHaveLength(5);
    expect(errorsOf('apiVersion: v1\nitems:\n- \nkind: List\n')).toEqual([
      'shop.yaml:3: document 1: null is not a Kubernetes object',
    ]);
  });
});
