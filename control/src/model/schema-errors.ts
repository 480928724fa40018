/**
 * Ajv's errors as sentences with a field path, for flatpath's own documents (datapath, ConnectivityTest, Scenario, API).
 */

import type { ErrorObject } from 'ajv';

/** One sentence a field; the branches of a union become one sentence that lists them. */
export function summarizeErrors(errors: readonly ErrorObject[]): string[] {
  const sentences = new Map<string, string>();
  for (const error of errors) {
    const field = fieldOf(error.instancePath);
    const choices = errors
      .filter((other) => other.instancePath === error.instancePath && other.keyword === 'const')
      .map((other) => String(other.params['allowedValue']));
    if (choices.length > 0) sentences.set(field, `${field || 'the document'}: must be ${listChoices(choices)}`);
    else if (error.keyword === 'additionalProperties') {
      const key = join(field, String(error.params['additionalProperty']));
      sentences.set(key, `${key}: unknown key`);
    } else if (error.keyword === 'required') {
      const key = join(field, String(error.params['missingProperty']));
      sentences.set(key, `${key}: missing`);
    } else if (!sentences.has(field))
      sentences.set(field, `${field || 'the document'}: ${error.message ?? 'is wrong'}`);
  }
  return [...sentences.values()];
}

function listChoices(choices: readonly string[]): string {
  const unique = [...new Set(choices)];
  return unique.length === 1 ? unique[0]! : `one of ${unique.join(', ')}`;
}

/** '/spec/probes/0/from' -> 'spec.probes[0].from'. */
function fieldOf(pointer: string): string {
  let field = '';
  for (const part of pointer.split('/').slice(1)) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~');
    field = /^\d+$/.test(key) ? `${field}[${key}]` : join(field, key);
  }
  return field;
}

function join(field: string, key: string): string {
  return field === '' ? key : `${field}.${key}`;
}
