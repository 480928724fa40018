/**
 * A place in the tokens of a dump (`nft-tokens.ts`), with the questions that a parser asks there.
 *
 * What does not fit raises `NftUnclear`: the reader of a rule makes it one that is not understood, the reader of tables
 * and chains an error of the dump.
 */

import type { Token } from './nft-tokens.ts';
import { NftUnclear } from './nft-values.ts';

export class NftCursor {
  private readonly tokens: readonly Token[];
  private readonly stop: number;
  at: number;

  /** @param stop first token that does not belong to it; there stands at least one more token, the end of the dump */
  constructor(tokens: readonly Token[], at: number, stop: number) {
    this.tokens = tokens;
    this.at = at;
    this.stop = stop;
  }

  get isDone(): boolean {
    return this.at >= this.stop;
  }

  /** The token here, or the one that stands beyond the end. */
  get token(): Token {
    return this.tokens[Math.min(this.at, this.stop)]!;
  }

  /** The token taken last. */
  get previous(): Token {
    return this.tokens[Math.max(this.at - 1, 0)]!;
  }

  /** Text of the token `ahead` of here; '' beyond the end. Text between quotes is nobody's keyword. */
  peek(ahead = 0): string {
    const token = this.at + ahead < this.stop ? this.tokens[this.at + ahead]! : null;
    return token === null || token.kind === 'string' ? '' : token.text;
  }

  /** Takes the token here if it is this keyword or mark. */
  take(text: string): boolean {
    if (this.isDone || this.token.kind === 'string' || this.token.text !== text) return false;
    this.at++;
    return true;
  }

  expect(text: string): void {
    if (!this.take(text)) throw new NftUnclear(`'${text}' is missing${this.found()}`);
  }

  /** Takes a word, quoted or not. */
  word(what: string): string {
    const { kind, text } = this.token;
    if (this.isDone || (kind !== 'word' && kind !== 'string'))
      throw new NftUnclear(`${what} is missing${this.found()}`);
    this.at++;
    return text;
  }

  /** Takes what is written without a space: `10.0.0.1:"http"` of `nft -S` is three tokens. */
  glued(what: string): string {
    const first = this.token;
    if (this.isDone || first.kind === 'end') throw new NftUnclear(`${what} is missing${this.found()}`);
    let text = first.text;
    for (this.at++; !this.isDone && this.token.glued && this.token.kind !== 'end'; this.at++) text += this.token.text;
    return text;
  }

  /** Takes a number. */
  number(what: string): number {
    const text = this.word(what);
    if (!/^(?:\d{1,10}|0x[0-9a-fA-F]{1,8})$/.test(text)) throw new NftUnclear(`'${text}' is no number (${what})`);
    return Number(text);
  }

  /** Passes over line ends, which mean nothing between braces. */
  skipLines(): void {
    while (!this.isDone && this.token.kind === 'end') this.at++;
  }

  private found(): string {
    if (this.isDone) return '';
    return this.token.kind === 'end' ? ' at the end of the line' : ` before '${this.token.text}'`;
  }
}
