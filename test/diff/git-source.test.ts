import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Problem } from '../../control/src/cluster/problem.ts';
import { InputError } from '../../control/src/cluster/problem.ts';
import { readGitFiles } from '../../control/src/diff/git-source.ts';
import { readSides } from '../../control/src/diff/sides.ts';
import { originOf } from '../../control/src/model/origin.ts';

const namespace = (name: string): string => `apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ${name}\n`;

function makeRepository(): string {
  const root = mkdtempSync(join(tmpdir(), 'flatpath-git-'));
  const write = (path: string, text: string | Uint8Array): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  write('deploy/b.yaml', namespace('b'));
  write('deploy/a/z.yml', namespace('z'));
  write('deploy/a-first.yaml', namespace('a-first'));
  write('deploy/.hidden/x.yaml', namespace('hidden'));
  write('deploy/node_modules/x.yaml', namespace('modules'));
  write('deploy/README.md', 'no manifest');
  write('deploy/größe.json', JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'groesse' } }));
  write('shared/common.yaml', namespace('common'));
  write('latin.yaml', Uint8Array.of(0x61, 0x3a, 0xe9));
  symlinkSync('../shared/common.yaml', join(root, 'deploy/linked.yaml'));
  symlinkSync('../shared', join(root, 'deploy/more'));
  symlinkSync('../nowhere.yaml', join(root, 'broken.yaml'));
  const git = (...args: string[]): string => execFileSync('git', ['-C', root, ...args], { encoding: 'utf8' });
  git('init', '--quiet', '--initial-branch=main');
  git('config', 'user.email', 'test@example.com');
  git('config', 'user.name', 'Test');
  git('add', '--all', '--force');
  git('commit', '--quiet', '--message', 'first');
  git('tag', '--annotate', 'v1', '--message', 'one');
  // What is read is the commit, whatever lies in the folder by now.
  rmSync(join(root, 'deploy'), { recursive: true });
  return root;
}

const root = makeRepository();

function read(spec: string, folder = root): { files: string[]; problems: string[] } {
  const problems: Problem[] = [];
  const files = readGitFiles(spec, folder, problems).map(({ path }) => path);
  return { files, problems: problems.map(({ file, message }) => `${file}: ${message}`) };
}

describe('git:REV:path', () => {
  it('reads a folder of a commit in the order of a folder on the disk, links followed', () => {
    const names = ['a/z.yml', 'a-first.yaml', 'b.yaml', 'größe.json', 'linked.yaml', 'more/common.yaml'];
    const expected = names.map((name) => `git:HEAD:deploy/${name}`);
    expect(read('git:HEAD:deploy')).toEqual({ files: expected, problems: [] });
    expect(read('git:HEAD:/deploy/').files).toEqual(expected);
  });

  it('reads single files, tags, branches, the whole tree, and paths from where one stands', () => {
    expect(read('git:v1:deploy/b.yaml')).toEqual({ files: ['git:v1:deploy/b.yaml'], problems: [] });
    expect(read('git:main:shared').files).toEqual(['git:main:shared/common.yaml']);
    expect(read('git:HEAD:./common.yaml', join(root, 'shared')).files).toEqual(['git:HEAD:./common.yaml']);
    expect(read('git:HEAD:../shared', join(root, 'shared')).files).toEqual(['git:HEAD:shared/common.yaml']);
    const whole = read('git:HEAD:');
    expect(whole.files).toContain('git:HEAD:deploy/a/z.yml');
    expect(whole.problems).toEqual([
      'git:HEAD:broken.yaml: is a symbolic link that leads to no file of the commit',
      'git:HEAD:latin.yaml: is not UTF-8 text',
    ]);
  });

  it('gives objects a place in the commit', () => {
    const side = { paths: ['git:HEAD:deploy/b.yaml'], datapath: {} };
    const { before } = readSides(side, { paths: ['git:v1:deploy'], datapath: {} }, root);
    const origin = originOf(before.store.get('Namespace', '', 'b')!, 'metadata.name');
    expect(origin).toMatchObject({ file: 'git:HEAD:deploy/b.yaml', document: 1, line: 4 });
  });

  it('says what is wrong, with the place', () => {
    expect(read('git:nothing:deploy').problems).toEqual([
      "git:nothing:deploy: 'nothing' is not a revision of this repository",
    ]);
    expect(read('git:--help:deploy').problems[0]).toContain('is not a revision');
    expect(read('git:HEAD:absent').problems).toEqual(["git:HEAD:absent: 'absent' does not exist in HEAD"]);
    expect(read('git:HEAD:../..').problems).toEqual(['git:HEAD:../..: leads out of the repository']);
    expect(read('git:deploy').problems).toEqual(['git:deploy: is not git:REV:path, such as git:origin/main:deploy']);
    expect(read('git:HEAD:deploy/README.md').problems).toEqual([]);
    expect(read('git:HEAD:deploy', tmpdir()).problems[0]).toMatch(/^git:HEAD:deploy: git: not a git repository/);
  });

  it('reports the errors of both sides together', () => {
    const broken = { paths: ['git:HEAD:absent'], datapath: {} };
    try {
      readSides(broken, { paths: ['git:HEAD:latin.yaml', '/does/not/exist'], datapath: {} }, root);
      expect.unreachable();
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      expect(error.problems.map(({ file }) => file)).toEqual([
        'git:HEAD:absent',
        'git:HEAD:latin.yaml',
        '/does/not/exist',
      ]);
    }
  });
});
