/**
 * What is wrong, or odd, with the input: one problem names file, document, object and field.
 *
 * A load reports all of its errors together (`InputError`) and applies nothing of the input then.
 */

import type { KubernetesObject } from '../model/metadata.ts';
import { originOf } from '../model/origin.ts';

export interface Problem {
  readonly severity: 'error' | 'warning';
  /** Path as the user gave or would find it; '' for objects that came from no file. */
  readonly file: string;
  /** 1-based number of the document in its file, 0 for objects that came from no file. */
  readonly document: number;
  /** 'Service shop/checkout', or '' where no object could be read. */
  readonly object: string;
  /** 'spec.ports[0].port', or ''. */
  readonly field: string;
  readonly message: string;
  /** 1-based line, where it is known. */
  readonly line?: number;
}

/**
 * One line: `file:line: Service shop/checkout spec.ports[0].port: 70000 is not a port (1 to 65535)`. A problem whose
 * object could not be read names the document instead.
 */
export function describeProblem(problem: Problem): string {
  let place = problem.file;
  if (place !== '' && problem.line !== undefined) place += `:${problem.line}`;
  const object = problem.object === '' && problem.document > 0 ? `document ${problem.document}` : problem.object;
  const subject = [object, problem.field].filter((part) => part !== '').join(' ');
  return [place, subject, problem.message].filter((part) => part !== '').join(': ');
}

/** The input cannot be used. `problems` holds every error of the load, in the order of the input. */
export class InputError extends Error {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(problems.map(describeProblem).join('\n'));
    this.name = 'InputError';
    this.problems = problems;
  }
}

/** 'Service shop/checkout', 'Node worker-1'. */
export function describeObject(object: KubernetesObject): string {
  const { namespace, name } = object.metadata;
  return `${object.kind} ${namespace === '' ? name : `${namespace}/${name}`}`;
}

/** Collects problems of objects; those of made objects are laid at the door of the object they were made from. */
export class ProblemList {
  readonly errors: Problem[] = [];
  readonly warnings: Problem[] = [];

  error(object: KubernetesObject, field: string, message: string): void {
    this.add('error', object, field, message);
  }

  warn(object: KubernetesObject, field: string, message: string): void {
    this.add('warning', object, field, message);
  }

  /** A problem of the whole input. */
  warnInput(message: string): void {
    this.warnings.push({ severity: 'warning', file: '', document: 0, object: '', field: '', message });
  }

  add(severity: 'error' | 'warning', object: KubernetesObject, field: string, message: string): void {
    const origin = originOf(object, field);
    const problem: Problem = {
      severity,
      file: origin.file ?? '',
      document: origin.document ?? 0,
      object: describeObject({
        apiVersion: '',
        kind: origin.kind,
        metadata: { name: origin.name, namespace: origin.namespace },
      }),
      field: origin.field,
      message,
      line: origin.line,
    };
    (severity === 'error' ? this.errors : this.warnings).push(problem);
  }
}
