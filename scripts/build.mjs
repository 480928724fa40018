/** `npm run build`: compiles and bundles, whatever the stamps say. */
import { build } from './setup.mjs';

process.exit(build());
