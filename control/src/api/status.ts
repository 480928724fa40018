/**
 * Failures as Kubernetes Status objects: what every route answers when it does not do what was asked.
 *
 * All causes stand in one answer, each with its field where there is one. What was not foreseen answers 500 and says
 * nothing of the inside; the log has it.
 */
import { CaptureError } from '@flatpath/engine/wire/capture-record';
import type { ErrorObject } from 'ajv';
import { InputError, type Problem } from '../cluster/problem.ts';
import { summarizeErrors } from '../model/schema-errors.ts';
import { UnresolvedReference } from '../probe/reference.ts';

export interface StatusCause {
  readonly reason: string;
  readonly message: string;
  /** 'spec.ports[0].port'; '' for the whole. */
  readonly field: string;
}

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly causes?: readonly StatusCause[];
  readonly retryAfterSeconds?: number;
}

export interface Status {
  readonly kind: 'Status';
  readonly apiVersion: 'v1';
  readonly metadata: Record<string, never>;
  readonly status: 'Failure';
  readonly message: string;
  readonly reason: string;
  readonly details?: StatusDetails;
  readonly code: number;
}

/** Reasons of Kubernetes' API by HTTP code. */
const REASONS: Readonly<Record<number, string>> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  405: 'MethodNotAllowed',
  406: 'NotAcceptable',
  408: 'Timeout',
  409: 'Conflict',
  413: 'RequestEntityTooLarge',
  415: 'UnsupportedMediaType',
  422: 'Invalid',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
};

/** A failure with its answer. */
export class StatusError extends Error {
  readonly code: number;
  readonly details: StatusDetails | undefined;
  readonly reason: string;

  constructor(code: number, message: string, details?: StatusDetails, reason = REASONS[code] ?? 'InternalError') {
    super(message);
    this.name = 'StatusError';
    this.code = code;
    this.details = details;
    this.reason = reason;
  }
}

/** 422 for values that are wrong, every one named. */
export function invalid(causes: readonly StatusCause[], details: StatusDetails = {}): StatusError {
  const text = causes.map(({ field, message }) => (field === '' ? message : `${field}: ${message}`)).join('; ');
  const subject = details.name === undefined ? 'the request' : `${details.kind ?? 'object'} "${details.name}"`;
  return new StatusError(422, `${subject} is invalid: ${text}`, { ...details, causes });
}

/** One wrong value. */
export function invalidField(field: string, message: string): StatusError {
  return invalid([{ reason: 'FieldValueInvalid', field, message }]);
}

/** Sentences of the form `field: message` as causes. */
export function causesOf(sentences: readonly string[]): StatusCause[] {
  return sentences.map((sentence) => {
    const at = sentence.indexOf(': ');
    const field = at < 0 ? '' : sentence.slice(0, at);
    const message = at < 0 ? sentence : sentence.slice(at + 2);
    return { reason: causeReason(message), field: field === 'the document' ? '' : field, message };
  });
}

/** Problems of the loader as causes; `fieldOf` says how a problem's field is written in the request. */
export function problemCauses(
  problems: readonly Problem[],
  fieldOf: (problem: Problem) => string = ({ field }) => field,
): StatusCause[] {
  return problems.map((problem) => ({
    reason: causeReason(problem.message),
    field: fieldOf(problem),
    message: problem.object === '' ? problem.message : `${problem.object}: ${problem.message}`,
  }));
}

function causeReason(message: string): string {
  if (message === 'is required' || message === 'missing') return 'FieldValueRequired';
  if (message.includes('is not one of') || message.startsWith('must be one of')) return 'FieldValueNotSupported';
  if (message.includes(' is also ') || message.includes('stands twice')) return 'FieldValueDuplicate';
  if (message === 'unknown key') return 'FieldValueForbidden';
  return 'FieldValueInvalid';
}

/** The answer to an error. */
export function statusOf(error: unknown): Status {
  const failure = toStatusError(error);
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: failure.message,
    reason: failure.reason,
    ...(failure.details === undefined ? {} : { details: failure.details }),
    code: failure.code,
  };
}

function toStatusError(error: unknown): StatusError {
  if (error instanceof StatusError) return error;
  if (error instanceof InputError) return invalid(problemCauses(error.problems));
  if (error instanceof UnresolvedReference)
    return invalid([{ reason: 'FieldValueInvalid', field: '', message: error.message }]);
  if (error instanceof CaptureError)
    return invalid([{ reason: 'FieldValueInvalid', field: '', message: error.message }]);
  if (error instanceof Error) {
    // What the framework's errors carry beside their message.
    const statusCode: unknown = Reflect.get(error, 'statusCode');
    const validation: unknown = Reflect.get(error, 'validation');
    const validationContext: unknown = Reflect.get(error, 'validationContext');
    if (Array.isArray(validation)) {
      const causes = causesOf(summarizeErrors(validation as ErrorObject[]));
      // A wrong path or query is a wrong request; a wrong body is a wrong object.
      if (validationContext === 'body') return invalid(causes);
      return new StatusError(400, causes.map(({ field, message }) => `${field}: ${message}`).join('; '), { causes });
    }
    if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
      return new StatusError(statusCode, error.message, undefined, REASONS[statusCode] ?? 'BadRequest');
    }
  }
  return new StatusError(500, 'the server met a condition that it did not foresee; its log tells more');
}
