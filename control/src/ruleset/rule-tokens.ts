/**
 * A line of iptables-save as words, split as iptables-restore splits it: blanks part words, double quotes hold them
 * together, a backslash inside quotes takes the next character as it is.
 */

export interface RuleTokens {
  readonly words: readonly string[];
  /** A quote that never ends. */
  readonly open: boolean;
}

export function splitRule(line: string): RuleTokens {
  const words: string[] = [];
  let word = '';
  let inWord = false;
  let quoted = false;
  for (let i = 0; i < line.length; i++) {
    const c = line[i]!;
    if (quoted) {
      if (c === '\\' && i + 1 < line.length) word += line[++i]!;
      else if (c === '"') quoted = false;
      else word += c;
    } else if (c === '"') {
      quoted = true;
      inWord = true;
    } else if (c === ' ' || c === '\t') {
      if (inWord) words.push(word);
      word = '';
      inWord = false;
    } else {
      word += c;
      inWord = true;
    }
  }
  if (inWord) words.push(word);
  return { words, open: quoted };
}
