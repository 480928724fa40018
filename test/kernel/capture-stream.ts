/**
 * A running tcpdump, read as it writes: packets from their IP header on, with the interface where they were seen.
 *
 * Two kinds: every interface of a namespace at once (link type LINUX_SLL2: frames that come in there), and a group of
 * netfilter's log (link type NFLOG). A packet that was cut, or that tcpdump lost, is an error and never overlooked.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

export interface Captured {
  /** Index of the interface; 0 for a logged packet. */
  readonly interfaceIndex: number;
  readonly packet: Uint8Array;
}

const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
const LINKTYPE_NFLOG = 239;
const LINKTYPE_SLL2 = 276;
const SLL2_BYTES = 20;
const NFLOG_HEADER_BYTES = 4;
const NFLOG_PAYLOAD = 9;
const SNAP_BYTES = 2048;

export class CaptureStream {
  readonly packets: Captured[] = [];
  private readonly child: ChildProcess;
  private readonly name: string;
  private rest: Buffer = Buffer.alloc(0);
  private linkType = -1;
  private stderr = '';
  private waiting: (() => void) | null = null;

  /** @param what `any`: all interfaces, `nflog:N`: a log group */
  constructor(namespace: string, what: string) {
    this.name = `${namespace} ${what}`;
    const incoming = what === 'any' ? ['-Q', 'in', '-y', 'LINUX_SLL2'] : [];
    const options = ['-n', '-i', what, ...incoming, '-U', '--immediate-mode', '-s', String(SNAP_BYTES), '-B', '16384'];
    this.child = spawn('nsenter', [`--net=/run/netns/${namespace}`, 'tcpdump', ...options, '-w', '-']);
    this.child.stdout!.on('data', (piece: Buffer) => this.read(piece));
    this.child.stderr!.on('data', (piece: Buffer) => {
      this.stderr += piece.toString();
      this.wake();
    });
    this.child.on('exit', () => this.wake());
  }

  /** Waits until tcpdump listens. */
  async ready(): Promise<void> {
    await this.until(() => this.stderr.includes('listening on'), 10_000);
  }

  /** Waits for a packet among those since number `from`. */
  async see(from: number, isIt: (captured: Captured) => boolean): Promise<void> {
    let next = from;
    await this.until(() => {
      while (next < this.packets.length) if (isIt(this.packets[next++]!)) return true;
      return false;
    }, 5_000);
  }

  /** Ends tcpdump. @throws Error when it lost packets */
  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill('SIGINT');
      await once(this.child, 'exit');
    }
    const dropped = /(\d+) packets? dropped by kernel/.exec(this.stderr)?.[1] ?? '0';
    if (dropped !== '0') throw new Error(`tcpdump (${this.name}) lost ${dropped} packets`);
  }

  private async until(holds: () => boolean, timeoutMs: number): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!holds()) {
      if (this.child.exitCode !== null) throw new Error(`tcpdump (${this.name}) ended: ${this.stderr}`);
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`tcpdump (${this.name}) saw nothing in ${timeoutMs} ms: ${this.stderr}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.waiting = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.waiting = null;
    }
  }

  private wake(): void {
    this.waiting?.();
  }

  private read(piece: Buffer): void {
    this.rest = this.rest.length === 0 ? piece : Buffer.concat([this.rest, piece]);
    let at = 0;
    if (this.linkType === -1) {
      if (this.rest.length < FILE_HEADER_BYTES) return;
      this.linkType = this.rest.readUInt32LE(20);
      at = FILE_HEADER_BYTES;
    }
    while (this.rest.length >= at + RECORD_HEADER_BYTES) {
      const length = this.rest.readUInt32LE(at + 8);
      const start = at + RECORD_HEADER_BYTES;
      if (this.rest.length < start + length) break;
      if (length < this.rest.readUInt32LE(at + 12)) throw new Error(`tcpdump (${this.name}) cut a packet`);
      this.take(new Uint8Array(this.rest.subarray(start, start + length)));
      at = start + length;
    }
    this.rest = this.rest.subarray(at);
    this.wake();
  }

  private take(record: Uint8Array): void {
    const view = new DataView(record.buffer);
    if (this.linkType === LINKTYPE_SLL2) {
      this.packets.push({ interfaceIndex: view.getUint32(4), packet: record.subarray(SLL2_BYTES) });
    } else if (this.linkType === LINKTYPE_NFLOG) {
      const packet = nflogPayload(record, view);
      if (packet !== null) this.packets.push({ interfaceIndex: 0, packet });
    } else throw new Error(`tcpdump (${this.name}) writes link type ${this.linkType}`);
  }
}

/** Attributes of length, type and value, padded to four bytes; lengths in this machine's order. */
function nflogPayload(record: Uint8Array, view: DataView): Uint8Array | null {
  for (let at = NFLOG_HEADER_BYTES; at + 4 <= record.length; ) {
    const length = view.getUint16(at, true);
    if (length < 4) return null;
    if ((view.getUint16(at + 2, true) & 0x7fff) === NFLOG_PAYLOAD) return record.slice(at + 4, at + length);
    at += (length + 3) & ~3;
  }
  return null;
}
