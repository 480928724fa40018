/** Checks that all workloads share: a selector must select the pods that the template makes. */

import { type LabelSelector, selects } from '../model/label-selector.ts';
import type { PodTemplate } from '../model/pod.ts';
import type { FieldReport } from './field-report.ts';

export function checkWorkload(
  spec: { readonly selector?: LabelSelector; readonly template: PodTemplate },
  report: FieldReport,
): void {
  if (spec.selector !== undefined && !selects(spec.selector, spec.template.metadata.labels)) {
    report.error('spec.selector', 'does not select the labels of spec.template.metadata');
  }
}
