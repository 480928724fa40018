/** `import 'flatpath/vitest'` in a test or a set-up file: adds `toAllow` and `toDeny` to vitest's `expect`. */

import { expect } from 'vitest';
import type { ProbeRequest } from './cluster.ts';
import { matchers } from './matchers.ts';

declare module 'vitest' {
  interface Matchers<T> {
    /** The first packet of the connection arrives on every way that the datapath could choose. */
    toAllow(request: ProbeRequest): void;
    /** Policies deny the connection on every way; a Service that refuses it is not a denial. */
    toDeny(request: ProbeRequest): void;
  }
}

expect.extend(matchers);
