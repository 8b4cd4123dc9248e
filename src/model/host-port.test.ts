import { describe, expect, it } from 'vitest';
import { formatHostPort, parseHostPort } from './host-port.ts';

describe('host and port', () => {
  it.each([
    ['node1:2377', { host: 'node1', port: 2377 }],
    ['192.0.2.1:0', { host: '192.0.2.1', port: 0 }],
    ['[2001:db8::1]:65535', { host: '2001:db8::1', port: 65_535 }],
  ])('reads %s and writes it back', (text, expected) => {
    expect(parseHostPort(text)).toEqual(expected);
    expect(formatHostPort(expected.host, expected.port)).toBe(text);
  });

  it.each([
    '',
    'node1',
    ':80',
    'node1:',
    'node1:65536',
    '2001:db8::1:80',
    '[node1]:80',
    'a b:80',
    'http://a:80',
    '[]:1',
  ])('refuses %j', (text) => expect(parseHostPort(text)).toBeUndefined());
});
