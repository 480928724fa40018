/**
 * The words of `nft list ruleset`, each with its line.
 *
 * Spaces part words as nft prints them: `10.0.0.1:80`, `10.0.0.1-10.0.0.9`, `service-ULMVA6XW-ns1/svc1/tcp/p80` and
 * `1d2h` are one word each, ` . ` of a concatenation, ` : ` of a map and ` / ` of a mask one of their own. A line's end is
 * a token, because it ends a statement outside braces of elements; comments are left out.
 */

export type TokenKind =
  /** A name, number, address or any other run of characters. */
  | 'word'
  /** Text between quotes, without them. */
  | 'string'
  /** One of `{ } ( ) , ; = == != < > <= >= ! & | ^ << >> @`, or a lone `. : /`. */
  | 'mark'
  /** End of a line; `text` is empty. */
  | 'end';

export interface Token {
  readonly kind: TokenKind;
  readonly text: string;
  /** 1-based. */
  readonly line: number;
  /** Position in the text, for messages that quote it. */
  readonly start: number;
  readonly stop: number;
  /** No space between it and the token before it. */
  readonly glued: boolean;
}

const TOKEN =
  /(\n)|[ \t\r]+|\\\n|#[^\n]*|"([^"\n]*)"|(==|!=|<=|>=|<<|>>|[{}(),;=!<>&|^@])|([^\s{}(),;=!<>&|^"@#]+)|(.)/gy;

/** Splits a dump into tokens. A character that starts none is a mark of its own, for the parser to refuse. */
export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  let end = 0;
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(text); match !== null; match = TOKEN.exec(text)) {
    const [whole, newline, quoted, mark, word, odd] = match;
    const start = match.index;
    const stop = start + whole.length;
    const glued = start === end && start > 0 && !/\s/.test(text[start - 1]!);
    const place = { line, start, stop, glued };
    end = stop;
    if (newline !== undefined) {
      tokens.push({ kind: 'end', text: '', ...place });
      line++;
    } else if (quoted !== undefined) tokens.push({ kind: 'string', text: quoted, ...place });
    else if (mark !== undefined) tokens.push({ kind: 'mark', text: mark, ...place });
    else if (word !== undefined) pushWord(tokens, word, place);
    else if (odd !== undefined) tokens.push({ kind: 'mark', text: odd, ...place });
    else if (whole === '\\\n') line++;
  }
  tokens.push({ kind: 'end', text: '', line, start: text.length, stop: text.length, glued: false });
  return tokens;
}

type Place = Pick<Token, 'line' | 'start' | 'stop' | 'glued'>;

function pushWord(tokens: Token[], word: string, place: Place): void {
  if (word === '.' || word === ':' || word === '/') {
    tokens.push({ kind: 'mark', text: word, ...place });
    return;
  }
  // `{ 0: goto chain }`, as people write it; `fe80::` is an address.
  if (word.length > 1 && word.endsWith(':') && !word.endsWith('::')) {
    const colon = place.stop - 1;
    tokens.push({ kind: 'word', text: word.slice(0, -1), ...place, stop: colon });
    tokens.push({ kind: 'mark', text: ':', ...place, start: colon, glued: true });
    return;
  }
  tokens.push({ kind: 'word', text: word, ...place });
}
