import { randomInt } from 'node:crypto';

const ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz';

/** A new id: 12 characters of 0-9a-z, 62 bits: the chance of a collision among a million ids is one in ten million. */
export function newId(): string {
  let id = '';
  for (let index = 0; index < 12; index += 1) id += ALPHABET[randomInt(ALPHABET.length)];
  return id;
}
