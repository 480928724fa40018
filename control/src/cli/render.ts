/** `flatpath render`: a node's rules or maps as text. */
import { type Command, Option } from 'commander';
import { renderEbpf } from '../compile/ebpf-render.ts';
import type { ClusterModel } from '../compile/image.ts';
import { renderIptablesSave } from '../compile/iptables-save.ts';
import { addClusterOptions, type ClusterOptions, loadModel } from './cluster-options.ts';
import { EXIT_OK, UsageError } from './exit.ts';

const FORMS = ['iptables-save', 'ip6tables-save', 'ebpf'] as const;
type Form = (typeof FORMS)[number];

interface RenderOptions extends ClusterOptions {
  readonly node?: string;
  readonly as: Form;
}

export function addRender(program: Command): void {
  addClusterOptions(program.command('render'))
    .description("prints a node's rules or maps as the real tools would")
    .option('--node <name>', 'the node; default: the first by name')
    .addOption(new Option('--as <form>', 'what to print').choices([...FORMS]).makeOptionMandatory())
    .addHelpText('after', '\nExample:\n  flatpath render -f examples/shop --node worker-1 --as iptables-save')
    .action((options: RenderOptions) => {
      const model = loadModel(options);
      process.stdout.write(render(model, options.as, findNode(model, options.node)));
      process.exitCode = EXIT_OK;
    });
}

function findNode(model: ClusterModel, name: string | undefined): string {
  const names = model.cluster.nodes.map((node) => node.metadata.name);
  if (name === undefined) return names[0]!;
  const bare = name.startsWith('node/') ? name.slice('node/'.length) : name;
  if (!names.includes(bare)) throw new UsageError(`--node ${name}: there is ${names.slice(0, 8).join(', ')}`);
  return bare;
}

function render(model: ClusterModel, form: Form, node: string): string {
  switch (form) {
    case 'iptables-save':
      return renderIptablesSave(model.cluster, model.config, node, 4);
    case 'ip6tables-save':
      return renderIptablesSave(model.cluster, model.config, node, 6);
    case 'ebpf':
      return renderEbpf(model.cluster, model.config, node);
  }
}
