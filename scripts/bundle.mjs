/** One module out of a compiled file and what it imports, made for speed; see docs/architecture.md. */
import { rolldown } from 'rolldown';
import { specialise } from './specialise.mjs';

/**
 * Bundles a file, writes every exported number in place of its name (V8 reads an imported constant from memory each
 * time, which costs the hot path about a fifth of its speed), and specialises it for the constants of its top level.
 * @param {string} input a compiled module
 * @param {readonly string[]} constants as `specialise`
 * @param {Readonly<Record<string, string>>} members as `specialise`
 * @returns {Promise<string>} the module's text
 */
export async function bundle(input, constants, members) {
  const build = await rolldown({
    input,
    platform: 'node',
    tsconfig: false,
    external: [/^node:/],
    optimization: { inlineConst: { mode: 'all', pass: 3 } },
  });
  const { output } = await build.generate({ format: 'esm' });
  await build.close();
  return specialise(output[0].code, constants, members).code;
}
