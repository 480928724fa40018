/**
 * Finds the first place where a text stops being JSON. JSON.parse knows, but tells it in words that differ between
 * versions of Node and often without a position. Only runs on texts that JSON.parse has refused.
 */

const TOKEN = /[{}[\],:]|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;
const SPACE = /[ \t\r\n]*/y;

type Wanted = 'a value' | "a value or ']'" | 'a key' | "a key or '}'" | "':'" | "',' or ']'" | "',' or '}'" | 'the end';

/** The offset, and what is wrong there in a few words. */
export function findJsonError(text: string): { offset: number; message: string } {
  const open: ('{' | '[')[] = [];
  let wanted: Wanted = 'a value';
  let at = 0;
  for (;;) {
    SPACE.lastIndex = at;
    SPACE.test(text);
    at = SPACE.lastIndex;
    if (at >= text.length) return { offset: at, message: `the text ends where ${wanted} should be` };
    const token = readToken(text, at);
    const next: Wanted | null = token === '' ? null : accept(token, wanted, open);
    if (next === null) return { offset: at, message: `${JSON.stringify(text[at])} where ${wanted} should be` };
    wanted = next;
    at += token.length;
  }
}

/** The token at an offset; '' where there is none. */
function readToken(text: string, at: number): string {
  if (text[at] !== '"') {
    TOKEN.lastIndex = at;
    return TOKEN.exec(text)?.[0] ?? '';
  }
  let end = at + 1;
  while (end < text.length && text[end] !== '"' && text[end]! >= ' ') end += text[end] === '\\' ? 2 : 1;
  if (text[end] !== '"') return '';
  const token = text.slice(at, end + 1);
  return /\\(?!["\\/bfnrt]|u[0-9a-fA-F]{4})/.test(token.replaceAll('\\\\', '')) ? '' : token;
}

/** What may follow a token, or null where it may not stand; keeps the list of open brackets. */
function accept(token: string, wanted: Wanted, open: ('{' | '[')[]): Wanted | null {
  const afterValue = (): Wanted => {
    const around = open[open.length - 1];
    return around === undefined ? 'the end' : around === '{' ? "',' or '}'" : "',' or ']'";
  };
  const wantsValue = wanted === 'a value' || wanted === "a value or ']'";
  const wantsKey = wanted === 'a key' || wanted === "a key or '}'";
  switch (token) {
    case '{':
    case '[':
      if (!wantsValue) return null;
      open.push(token);
      return token === '{' ? "a key or '}'" : "a value or ']'";
    case '}':
      if (wanted !== "a key or '}'" && wanted !== "',' or '}'") return null;
      open.pop();
      return afterValue();
    case ']':
      if (wanted !== "a value or ']'" && wanted !== "',' or ']'") return null;
      open.pop();
      return afterValue();
    case ',':
      if (wanted === "',' or '}'") return 'a key';
      return wanted === "',' or ']'" ? 'a value' : null;
    case ':':
      return wanted === "':'" ? 'a value' : null;
    default:
      if (wantsKey) return token.startsWith('"') ? "':'" : null;
      return wantsValue ? afterValue() : null;
  }
}
