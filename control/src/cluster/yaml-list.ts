/**
 * Finds the items of a `kind: List` in its text, as `kubectl get -o yaml` prints it: one document, `items:` at the
 * margin, and each item from a `- ` at the margin to the next. Nothing inside an item can stand at the margin, so no
 * YAML needs to be understood for this. A list that is written otherwise is not split.
 */

export interface ListText {
  /** The document without its items. */
  readonly around: string;
  /** Offsets of each item in the text, from its dash on. */
  readonly items: readonly { readonly start: number; readonly end: number }[];
}

/** Splits a list, or answers null for a text that is not one in this form. */
export function splitList(text: string): ListText | null {
  const head = /(?:^|\n)items:[ \t]*\r?\n(?=- )/.exec(text);
  if (head === null) return null;
  const first = head.index + head[0].length;
  // Further documents, before or behind, are no part of a list.
  if (/(?:^|\n)(?:---|\.\.\.)(?=\s)/.test(text.slice(text.startsWith('---') ? 3 : 0))) return null;
  const items: { start: number; end: number }[] = [];
  let start = first;
  for (;;) {
    const end = nextAtMargin(text, start);
    items.push({ start, end });
    if (!text.startsWith('- ', end)) return { around: `${text.slice(0, first)}${text.slice(end)}`, items };
    start = end;
  }
}

/** Offset of the next line behind `from` that begins with neither space, comment nor line end; the text's end if none. */
function nextAtMargin(text: string, from: number): number {
  let at = text.indexOf('\n', from);
  while (at >= 0 && at + 1 < text.length) {
    const code = text.charCodeAt(at + 1);
    const isInside = code === 0x20 || code === 0x09 || code === 0x0a || code === 0x0d || code === 0x23;
    if (!isInside) return at + 1;
    at = text.indexOf('\n', at + 1);
  }
  return text.length;
}
