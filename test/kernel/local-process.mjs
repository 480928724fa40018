/**
 * A process on the judged node. Reads one JSON command a line from stdin, answers `ok` or what went wrong.
 *
 *     {protocol: 'udp' | 'tcp', source, sport, destination, dport, payload: hex}
 *
 * UDP sockets stay open, so that a flow keeps its socket. A TCP connect sends its SYN; `{protocol: 'end'}` closes what
 * waits for an answer, before the kernel would send the SYN again.
 */
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

const datagrams = new Map();
let connecting = [];

function socketAt(source, sport) {
  const key = `${source} ${sport}`;
  let socket = datagrams.get(key);
  if (socket === undefined) {
    socket = new Promise((resolve, reject) => {
      const made = createSocket(source.includes(':') ? 'udp6' : 'udp4');
      made.once('error', reject);
      made.bind({ address: source, port: sport, exclusive: true }, () => {
        made.removeAllListeners('error');
        made.on('error', () => {});
        resolve(made);
      });
    });
    datagrams.set(key, socket);
  }
  return socket;
}

async function sendDatagram({ source, sport, destination, dport, payload }) {
  const socket = await socketAt(source, sport);
  await new Promise((resolve, reject) => {
    socket.send(Buffer.from(payload, 'hex'), dport, destination, (error) => (error ? reject(error) : resolve()));
  });
}

function sendSyn({ source, sport, destination, dport }) {
  const socket = connect({ host: destination, port: dport, localAddress: source, localPort: sport });
  socket.on('error', () => {});
  connecting.push(socket);
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer = 'ok';
  try {
    const command = JSON.parse(line);
    if (command.protocol === 'udp') await sendDatagram(command);
    else if (command.protocol === 'tcp') sendSyn(command);
    else {
      for (const socket of connecting) socket.destroy();
      connecting = [];
    }
  } catch (error) {
    // A refused send (EPERM by a DROP rule, EINVAL by a martian) is a fate of the packet, not of the process.
    answer = error.code ?? String(error);
  }
  process.stdout.write(`${answer}\n`);
}
