import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const bin = fileURLToPath(new URL('../../control/bin/flatpath.mjs', import.meta.url));
const built = existsSync(fileURLToPath(new URL('../../control/dist/cli/up.js', import.meta.url)));

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs the command; `onOutput` sees stdout as it grows. */
function run(
  args: readonly string[],
  onOutput: (out: string, kill: () => void) => void = () => undefined,
): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [bin, 'up', ...args], { env: { ...process.env, FLATPATH_TOKEN: '' } });
    let out = '';
    let err = '';
    child.stdout.on('data', (piece) => {
      out += String(piece);
      onOutput(out, () => child.kill('SIGTERM'));
    });
    child.stderr.on('data', (piece) => {
      err += String(piece);
    });
    child.on('close', (code) => resolve({ code, out, err }));
  });
}

describe.skipIf(!built)('flatpath up', () => {
  it('says where it listens, serves, and ends cleanly with a stream running', async () => {
    let asked: Promise<number[]> | null = null;
    const ended = await run(['--port', '0'], (out, kill) => {
      const url = /^flatpath listens on (http:\/\/127\.0\.0\.1:\d+)\n$/.exec(out)?.[1];
      if (url === undefined || asked !== null) return;
      asked = (async () => {
        const streams = [{ from: 'node/node-1', to: 'node/node-2:80', flows: 8 }];
        const started = await fetch(`${url}/flatpath/v1/streams`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ mode: 'ebpf', workers: 1, packets: 2 ** 32, streams }),
        });
        const health = await fetch(`${url}/healthz`);
        kill();
        return [started.status, health.status];
      })();
    });
    expect(await asked).toEqual([201, 200]);
    expect(ended).toMatchObject({ code: 0, err: '' });
  });

  it('refuses to start where it could not be safe, or what it cannot load', async () => {
    for (const [args, sentence] of [
      [['--host', '0.0.0.0'], '--token'],
      [['--port', '70000'], 'a port is a number'],
      [['--mode', 'bpf'], 'not one of iptables, nftables, ipvs, ebpf'],
      [['-f', '/nowhere'], 'does not exist'],
    ] as const) {
      const { code, out, err } = await run(args);
      expect(code).toBe(2);
      expect(out).toBe('');
      expect(err).toContain(sentence);
    }
  });
});
