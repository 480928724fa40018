/** Random conversations: what client, server and a router between them send, well-behaved and not. */

import type { ErrorType, FlowProtocol, Form, Step } from './case.ts';
import type { Random } from './random.ts';

const ERRORS: readonly ErrorType[] = [
  'port-unreachable',
  'host-unreachable',
  'too-big',
  'time-exceeded',
  'parameter-problem',
];

/** The steps of a flow whose client is outside the node. */
export function drawSteps(random: Random, protocol: FlowProtocol): Step[] {
  const kind = random.pick(ERRORS);
  const errors = [error('server', kind), error('router', kind), error('client', kind)];
  const isOdd = random.oneIn(8);
  switch (protocol) {
    case 'tcp': {
      if (isOdd) {
        const forms = ['ack', 'rst', 'fin', 'no-flags', 'syn-fin', 'bad-checksum', 'syn-ack', 'data'] as const;
        return [client(random.pick(forms)), ...tail(random, [client('syn'), server('ack'), server('rst')])];
      }
      const more = ['data', 'fin', 'rst', 'out-of-window', 'syn', 'bad-checksum', 'ack'] as const;
      return [client('syn'), server('syn-ack'), client('ack'), ...tail(random, [...fromBoth(more), ...errors])];
    }
    case 'udp': {
      const first = isOdd ? random.pick(['no-checksum', 'bad-checksum'] as const) : 'datagram';
      const more = ['datagram', 'datagram', 'no-checksum', 'bad-checksum'] as const;
      return [client(first), server('datagram'), ...tail(random, [...fromBoth(more), ...errors])];
    }
    case 'sctp': {
      if (isOdd) {
        const forms = ['data', 'abort', 'shutdown-ack', 'heartbeat', 'bad-checksum', 'cookie-echo'] as const;
        return [client(random.pick(forms)), ...tail(random, [server('heartbeat-ack'), client('init'), server('sack')])];
      }
      const more = [
        'data',
        'sack',
        'heartbeat',
        'heartbeat-ack',
        'shutdown',
        'shutdown-ack',
        'shutdown-complete',
        'abort',
      ] as const;
      return [
        ...[client('init'), server('init-ack'), client('cookie-echo'), server('cookie-ack')],
        ...tail(random, [...fromBoth(more), ...errors]),
      ];
    }
    case 'icmp': {
      const first = random.oneIn(3) ? random.pick(['echo-reply', 'timestamp', 'bad-checksum'] as const) : 'echo';
      return [client(first), server('echo-reply'), ...tail(random, [client('echo'), server('echo-reply'), ...errors])];
    }
    default:
      return [client('raw'), server('raw'), ...tail(random, [client('raw'), server('raw'), ...errors])];
  }
}

/** The steps of a flow of a process on the node, which sends what its sockets can: a SYN, or datagrams. */
export function drawHostSteps(random: Random, protocol: 'tcp' | 'udp'): Step[] {
  const kind = random.pick(ERRORS);
  if (protocol === 'tcp') {
    return [client('syn'), server('syn-ack'), ...tail(random, [server('data'), error('server', kind)])];
  }
  const more = [client('datagram'), server('datagram'), error('router', kind)];
  return [client('datagram'), server('datagram'), ...tail(random, more)];
}

/** None, one or two of some further steps. */
function tail(random: Random, from: readonly Step[]): Step[] {
  return Array.from({ length: random.below(3) }, () => random.pick(from));
}

function fromBoth(forms: readonly Form[]): Step[] {
  return forms.flatMap((form) => [client(form), server(form)]);
}

function client(form: Form): Step {
  return { kind: 'packet', from: 'client', form };
}

function server(form: Form): Step {
  return { kind: 'packet', from: 'server', form };
}

function error(from: 'client' | 'server' | 'router', type: ErrorType): Step {
  return { kind: 'error', from, error: type };
}
