/** Writes docs/reasons.md from the registry of reasons. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root, setUp } from './setup.mjs';

setUp();
const { REASONS } = await import(pathToFileURL(join(root, 'engine', 'dist', 'wire', 'reason.js')).href);
const rows = REASONS.map(({ number, name, sentence }) => `| ${number} | \`${name}\` | ${sentence} |`);
const text = `# Reasons

Why a packet was dropped or rejected. Made from \`engine/src/wire/reason.ts\` by \`node scripts/write-reasons.mjs\`.

| number | name | meaning |
| --- | --- | --- |
${rows.join('\n')}
`;
writeFileSync(join(root, 'docs', 'reasons.md'), text);
