import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const engine = fileURLToPath(new URL('./engine/src/', import.meta.url));

export default defineConfig({
  resolve: {
    // Tests run the sources, so that a failure points at a line that can be edited.
    alias: [{ find: /^@flatpath\/engine\/(.*)$/, replacement: `${engine}$1.ts` }],
  },
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
