/**
 * Schema pieces that give better errors, or narrower types, than TypeBox's own: a choice of words is one `enum` (one
 * error that lists the words) and `title` says in a sentence what a value should be.
 */

import { type TUnsafe, Type } from '@sinclair/typebox';

/** One of a few words. */
export function oneOf<const T extends string>(words: readonly T[], initial?: NoInfer<T>): TUnsafe<T> {
  return Type.Unsafe<T>({ type: 'string', enum: words, ...(initial === undefined ? {} : { default: initial }) });
}

/** Kubernetes' IntOrString. */
export const IntOrString: TUnsafe<number | string> = Type.Unsafe<number | string>({
  type: ['integer', 'string'],
  title: 'a whole number or a name',
});

/** A resource quantity: '250m', '4' or 4. */
export const Quantity: TUnsafe<number | string> = Type.Unsafe<number | string>({
  type: ['number', 'string'],
  title: 'a quantity',
});
