/** `flatpath render`: a node's rules or maps as text. */
import { type Command, Option } from 'commander';
import { renderEbpf } from '../compile/ebpf-render.ts';
import type { ClusterModel } from '../compile/image.ts';
import { kernelOptions } from '../compile/iptables-kube-proxy.ts';
import { renderIptablesSave, renderPolicyIpsets } from '../compile/iptables-save.ts';
import { renderIpset, renderIpvsadm, renderIpvsIptables } from '../compile/ipvs-render.ts';
import { renderNft } from '../compile/nft-save.ts';
import { NodePolicyMaker } from '../compile/policy-node.ts';
import type { Family } from '../model/address.ts';
import { addClusterOptions, type ClusterOptions, loadModel } from './cluster-options.ts';
import { EXIT_OK, UsageError } from './exit.ts';
import { checkDump } from './render-check.ts';

const FORMS = ['iptables-save', 'ip6tables-save', 'nft', 'ipvsadm', 'ipset', 'ebpf'] as const;
type Form = (typeof FORMS)[number];

/** The modes that have iptables rules. */
const RULE_MODES = ['iptables', 'ipvs'] as const;
type RuleMode = (typeof RULE_MODES)[number];
/** The forms that both of them have. */
const RULE_FORMS: readonly Form[] = ['iptables-save', 'ip6tables-save', 'ipset'];

interface RenderOptions extends ClusterOptions {
  readonly node?: string;
  readonly as?: Form;
  readonly check?: string;
  readonly json?: boolean;
  readonly mode?: RuleMode;
}

export function addRender(program: Command): void {
  addClusterOptions(program.command('render'))
    .description("prints a node's rules or maps as the real tools would")
    .option('--node <name>', 'the node; default: the first by name')
    .addOption(new Option('--as <form>', 'what to print').choices([...FORMS]))
    .option('--check <dump>', "compares a node's dump with what its manifests should give; exit 1 if it is not so")
    .option('--json', 'with --check: the answer as JSON')
    .addOption(
      new Option(
        '--mode <mode>',
        'whose rules or sets iptables-save, ip6tables-save and ipset print; default: iptables for rules and ipvs for sets, where the configuration does not say the other',
      ).choices([...RULE_MODES]),
    )
    .addHelpText(
      'after',
      '\nExamples:\n  flatpath render -f examples/shop --node worker-1 --as iptables-save\n' +
        '  flatpath render -f examples/shop --node worker-1 --check worker-1.iptables',
    )
    .action((options: RenderOptions) => {
      process.exitCode = run(options);
    });
}

function run(options: RenderOptions): number {
  const { as, check, json = false } = options;
  if ((as === undefined) === (check === undefined)) throw new UsageError('one of --as FORM and --check DUMP is needed');
  if (json && check === undefined) throw new UsageError('--json belongs to --check');
  const model = loadModel(options);
  const node = findNode(model, options.node);
  const mode = ruleMode(model, options);
  // What a dump is checked against is kube-proxy's; whose chains policies have there, nobody knows.
  if (check !== undefined) return checkDump(check, node, (form) => render(model, form, node, mode, null), json);
  const policies = new NodePolicyMaker(mode, model);
  process.stdout.write(render(model, as!, node, mode, policies));
  return EXIT_OK;
}

function findNode(model: ClusterModel, name: string | undefined): string {
  const names = model.cluster.nodes.map((node) => node.metadata.name);
  if (name === undefined) return names[0]!;
  const bare = name.startsWith('node/') ? name.slice('node/'.length) : name;
  if (!names.includes(bare)) throw new UsageError(`--node ${name}: there is ${names.slice(0, 8).join(', ')}`);
  return bare;
}

/** The mode whose iptables rules or ipsets are printed; a check is of kube-proxy's sets, which ipvs mode has. */
function ruleMode({ config }: ClusterModel, { as, mode }: RenderOptions): RuleMode {
  if (mode !== undefined && as !== undefined && !RULE_FORMS.includes(as)) {
    throw new UsageError(
      `--mode is for ${RULE_FORMS.slice(0, -1).join(', ')} and ${RULE_FORMS.at(-1)}; ${as} has one mode`,
    );
  }
  if (mode !== undefined) return mode;
  const [first, other]: readonly RuleMode[] = as === 'ipset' ? ['ipvs', 'iptables'] : ['iptables', 'ipvs'];
  return config.modes.includes(other!) && !config.modes.includes(first!) ? other! : first!;
}

/** @param policies null for kube-proxy's alone */
function render(
  model: ClusterModel,
  form: Form,
  node: string,
  mode: RuleMode,
  policies: NodePolicyMaker | null,
): string {
  const { cluster, config } = model;
  const renderRules = (family: Family): string =>
    mode === 'ipvs'
      ? renderIpvsIptables(cluster, config, node, family, policies)
      : renderIptablesSave(cluster, config, node, family, kernelOptions(config), policies);
  switch (form) {
    case 'iptables-save':
      return renderRules(4);
    case 'ip6tables-save':
      return renderRules(6);
    case 'ipvsadm':
      return renderIpvsadm(cluster, config, node);
    case 'ipset':
      if (mode === 'iptables' && policies !== null) return renderPolicyIpsets(cluster, config, node, policies);
      return renderIpset(cluster, config, node, policies);
    case 'nft':
      return renderNft(cluster, config, node, policies === null ? null : model);
    case 'ebpf':
      return renderEbpf(cluster, config, node, policies === null ? null : model);
  }
}
