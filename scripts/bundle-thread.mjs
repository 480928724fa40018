/** Bundles the worker's task file into one module, engine/dist/thread.mjs. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bundle } from './bundle.mjs';
import { root } from './setup.mjs';

const dist = join(root, 'engine', 'dist');
const constants = ['threadBurst', 'closingBurst', 'station', 'datapath'];
const code = await bundle(join(dist, 'worker', 'thread.js'), constants, { 'station.dp': 'datapath' });
await writeFile(join(dist, 'thread.mjs'), code);
