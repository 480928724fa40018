/**
 * JSON bodies: exactly `application/json`, nothing nested deeper than input may be, no key that could reach a prototype.
 */
import type { FastifyInstance } from 'fastify';
import { MAX_DEPTH } from '../cluster/document.ts';
import { StatusError } from './status.ts';

/** The media type as it must be written; parsers and validators that read one differently have been attacked by that. */
const JSON_TYPE = /^application\/json(?:; ?charset=utf-8)?$/i;

/** Bytes of a body where a route does not say otherwise. */
export const BODY_BYTES = 1024 * 1024;

/** True for the media types that carry JSON. */
export function isJsonType(header: string): boolean {
  return JSON_TYPE.test(header);
}

/** Makes JSON the only body that the instance takes. */
export function addJsonBody(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    const text = typeof body === 'string' ? body : body.toString('utf8');
    if (depthOf(text) > MAX_DEPTH) {
      done(new StatusError(400, `the body is nested deeper than ${MAX_DEPTH} levels`));
      return;
    }
    parse(request, text, (error, value) => {
      if (error === null) done(null, value);
      else done(new StatusError(400, 'the body is not JSON, or has a key that could reach a prototype'));
    });
  });
}

/** Levels of brackets outside strings; parsers that follow them recurse. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (inString) {
      if (code === 0x5c) i++;
      else if (code === 0x22) inString = false;
    } else if (code === 0x22) inString = true;
    else if (code === 0x5b || code === 0x7b) {
      depth++;
      if (depth > deepest) deepest = depth;
    } else if (code === 0x5d || code === 0x7d) depth--;
  }
  return deepest;
}
