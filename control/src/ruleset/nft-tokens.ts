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

/** Groups: end of a line, text in quotes, mark, word, any other character. */
const TOKEN =
  /(\n)|[ \t\r]+|\\\n|#[^\n]*|"([^"\n]*)"|(==|!=|<=|>=|<<|>>|[{}(),;=!<>&|^@])|([^\s{}(),;=!<>&|^"@#]+)|(.)/gy;

/** Splits a dump into tokens. A character that starts none is a mark of its own, for the parser to refuse. */
export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  let end = -1;
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(text); match !== null; match = TOKEN.exec(text)) {
    const start = match.index;
    const stop = TOKEN.lastIndex;
    const glued = start === end;
    const push = (kind: TokenKind, part: string): void => {
      tokens.push({ kind, text: part, line, start, stop, glued });
      end = stop;
    };
    if (match[4] !== undefined) {
      const word = match[4];
      if (word === '.' || word === ':' || word === '/') push('mark', word);
      else if (word.length > 1 && word.endsWith(':') && !word.endsWith('::')) {
        // `{ 0: goto chain }`, as people write it; `fe80::` is an address.
        tokens.push({ kind: 'word', text: word.slice(0, -1), line, start, stop: stop - 1, glued });
        tokens.push({ kind: 'mark', text: ':', line, start: stop - 1, stop, glued: true });
        end = stop;
      } else push('word', word);
    } else if (match[3] !== undefined) push('mark', match[3]);
    else if (match[1] !== undefined) {
      push('end', '');
      line++;
    } else if (match[2] !== undefined) push('string', match[2]);
    else if (match[5] !== undefined) push('mark', match[5]);
    else if (text[start] === '\\') line++;
  }
  tokens.push({ kind: 'end', text: '', line, start: text.length, stop: text.length, glued: false });
  return tokens;
}
