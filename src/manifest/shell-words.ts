import { err, ok, type Result } from '../base/errors.ts';

/**
 * Splits a command like a shell splits words, without expanding anything: blanks separate, quotes join, a backslash
 * keeps the next character. `#` starts no comment, and operators such as `|` or `;` are ordinary characters: there is
 * no shell. The rule of compose (mattn/go-shellwords).
 */
export function splitShellWords(text: string): Result<string[], string> {
  const words: string[] = [];
  let word = '';
  let inWord = false;
  let quote = '';
  for (let at = 0; at < text.length; at++) {
    const character = text[at]!;
    if (quote === "'") {
      if (character === "'") quote = '';
      else word += character;
    } else if (character === '\\') {
      const next = text[++at];
      if (next === undefined) return err('ends with a backslash');
      // Inside double quotes a backslash only escapes what would be special there (POSIX shell, 2.2.3).
      if (quote === '"' && !'$`"\\\n'.includes(next)) word += '\\';
      if (next !== '\n') word += next;
      inWord = true;
    } else if (quote === '"') {
      if (character === '"') quote = '';
      else word += character;
    } else if (character === '"' || character === "'") {
      quote = character;
      inWord = true;
    } else if (/[ \t\r\n]/.test(character)) {
      if (inWord) words.push(word);
      word = '';
      inWord = false;
    } else {
      word += character;
      inWord = true;
    }
  }
  if (quote !== '') return err(`has a ${quote === '"' ? 'double' : 'single'} quote that is not closed`);
  if (inWord) words.push(word);
  return ok(words);
}
