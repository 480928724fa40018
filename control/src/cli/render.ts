/** `flatpath render`: a node's rules or maps as text. */
import { type Command, Option } from 'commander';
import { renderEbpf } from '../compile/ebpf-render.ts';
import type { ClusterModel } from '../compile/image.ts';
import { renderIptablesSave } from '../compile/iptables-save.ts';
import { renderIpset, renderIpvsadm, renderIpvsIptables } from '../compile/ipvs-render.ts';
import { renderNft } from '../compile/nft-save.ts';
import { addClusterOptions, type ClusterOptions, loadModel } from './cluster-options.ts';
import { EXIT_OK, UsageError } from './exit.ts';
import { checkDump } from './render-check.ts';

const FORMS = ['iptables-save', 'ip6tables-save', 'nft', 'ipvsadm', 'ipset', 'ebpf'] as const;
type Form = (typeof FORMS)[number];

/** The modes that have iptables rules. */
const RULE_MODES = ['iptables', 'ipvs'] as const;
type RuleMode = (typeof RULE_MODES)[number];

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
        'whose rules iptables-save and ip6tables-save print; default: iptables, where the configuration does not say ipvs',
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
  if (check !== undefined) return checkDump(check, node, (form) => render(model, form, node, mode), json);
  process.stdout.write(render(model, as!, node, mode));
  return EXIT_OK;
}

function findNode(model: ClusterModel, name: string | undefined): string {
  const names = model.cluster.nodes.map((node) => node.metadata.name);
  if (name === undefined) return names[0]!;
  const bare = name.startsWith('node/') ? name.slice('node/'.length) : name;
  if (!names.includes(bare)) throw new UsageError(`--node ${name}: there is ${names.slice(0, 8).join(', ')}`);
  return bare;
}

/** The mode whose iptables rules are printed. */
function ruleMode({ config }: ClusterModel, { as, mode }: RenderOptions): RuleMode {
  if (mode !== undefined && as !== undefined && as !== 'iptables-save' && as !== 'ip6tables-save') {
    throw new UsageError(`--mode is for iptables-save and ip6tables-save; ${as} has one mode`);
  }
  const saysIpvs = config.modes.includes('ipvs') && !config.modes.includes('iptables');
  return mode ?? (saysIpvs ? 'ipvs' : 'iptables');
}

function render(model: ClusterModel, form: Form, node: string, mode: RuleMode): string {
  const renderRules = mode === 'ipvs' ? renderIpvsIptables : renderIptablesSave;
  switch (form) {
    case 'iptables-save':
      return renderRules(model.cluster, model.config, node, 4);
    case 'ip6tables-save':
      return renderRules(model.cluster, model.config, node, 6);
    case 'ipvsadm':
      return renderIpvsadm(model.cluster, model.config, node);
    case 'ipset':
      return renderIpset(model.cluster, model.config, node);
    case 'nft':
      return renderNft(model.cluster, model.config, node);
    case 'ebpf':
      return renderEbpf(model.cluster, model.config, node);
  }
}
