/**
 * Checks of a label selector as the API server makes them: keys and values that a label could have, values where the
 * operator wants some and none where it does not. (Unknown operators are refused by the schema.)
 */

import type { LabelSelector } from '../model/label-selector.ts';
import { joinField, splitField } from '../model/origin.ts';
import type { FieldReport } from './field-report.ts';
import { show } from './shape.ts';

const LABEL_PART = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;
const LABEL_PREFIX = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

export function checkLabelSelector(selector: LabelSelector, field: string, report: FieldReport): void {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    const at = joinField([...splitField(field), 'matchLabels', key]);
    checkKey(key, at, report);
    checkValue(value, at, report);
  }
  selector.matchExpressions?.forEach(({ key, operator, values = [] }, index) => {
    const at = `${field}.matchExpressions[${index}]`;
    checkKey(key, `${at}.key`, report);
    const takesValues = operator === 'In' || operator === 'NotIn';
    if (takesValues && values.length === 0) report.error(`${at}.values`, `is required with ${operator}`);
    if (!takesValues && values.length > 0) report.error(`${at}.values`, `must be empty with ${operator}`);
    values.forEach((value, position) => {
      checkValue(value, `${at}.values[${position}]`, report);
    });
  });
}

function checkKey(key: string, field: string, report: FieldReport): void {
  const slash = key.indexOf('/');
  const name = key.slice(slash + 1);
  const prefix = slash < 0 ? null : key.slice(0, slash);
  const isKey =
    name.length <= 63 &&
    LABEL_PART.test(name) &&
    (prefix === null || (prefix.length <= 253 && LABEL_PREFIX.test(prefix)));
  if (isKey) return;
  const wanted = "letters, digits, '-', '_' and '.', at most 63, with or without a domain and '/' before it";
  report.error(field, `${show(key)} is not a label's key (${wanted})`);
}

function checkValue(value: string, field: string, report: FieldReport): void {
  if (value === '' || (value.length <= 63 && LABEL_PART.test(value))) return;
  report.error(field, `${show(value)} is not a label's value (letters, digits, '-', '_' and '.', at most 63)`);
}
