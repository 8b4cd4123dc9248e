import { describe, expect, it } from 'vitest';
import { MeshError } from '../base/errors.ts';
import { newAddress } from './address.ts';
import { Attributes, AttributeWriter, toDecodeResult } from './attributes.ts';
import { errorName } from './errno.ts';
import { formatAddress, parseAddress, parseCidr, parseMac } from './ip.ts';
import { addEntries, addEntry, createSet, deleteEntries } from './ipset.ts';
import { newService } from './ipvs.ts';
import { newLink, setLink } from './link.ts';
import { decodeAck, decodeMessages } from './message.ts';
import { newRoute } from './route.ts';

const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'));

describe('addresses as text', () => {
  it.each([
    ['0.0.0.0', '00000000'],
    ['255.1.20.3', 'ff011403'],
    ['::', '0'.repeat(32)],
    ['::1', `${'0'.repeat(31)}1`],
    ['fd77::', `fd77${'0'.repeat(28)}`],
    ['2001:db8:0:1:1:1:1:1', '20010db8000000010001000100010001'],
    ['::ffff:10.0.0.1', '00000000000000000000ffff0a000001'],
  ])('%s', (text, bytes) => {
    expect(Buffer.from(parseAddress(text)).toString('hex')).toBe(bytes);
    expect(formatAddress(hex(bytes))).toBe(text);
  });

  it.each(['', '1.2.3', '1.2.3.4.5', '1.2.3.256', '010.0.0.1', '1.2.3.', ' 1.2.3.4', '1.2.3.4/8', 'web', '0x7f.0.0.1'])(
    'rejects %j',
    (text) => expect(() => parseAddress(text)).toThrow(MeshError),
  );

  it.each([
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7::8',
    'fe80::1%eth0',
    '12345::',
    '1.2.3.4::',
    'g::',
  ])('rejects %j', (text) => expect(() => parseAddress(text)).toThrow(MeshError));

  it('rejects invalid networks and MAC addresses', () => {
    for (const cidr of ['10.0.0.0', '10.0.0.0/33', '::/129', '10.0.0.0/', '10.0.0.0/-1', '10.0.0.0/8/8']) {
      expect(() => parseCidr(cidr)).toThrow(MeshError);
    }
    for (const mac of ['', '02:00:00:00:00', '02:00:00:00:00:0g', '0200.0000.0000']) {
      expect(() => parseMac(mac)).toThrow(MeshError);
    }
  });
});

describe('encoders reject values that do not fit the fields of the kernel', () => {
  it.each([
    ['a name of 16 bytes', () => newLink({ name: 'a-name-of-16-byt', config: { kind: 'dummy' } })],
    ['a name with a NUL', () => newLink({ name: 'a\0b', config: { kind: 'dummy' } })],
    ['a VNI of 25 bits', () => newLink({ name: 'v', config: { kind: 'vxlan', vni: 1 << 24 } })],
    ['a prefix too long', () => newAddress({ index: 1, address: '10.0.0.1', prefix: 33 })],
    ['an IPv4 gateway of IPv6', () => newRoute({ destination: 'fd00::/8', via: '10.0.0.1' })],
    ['a source of the other family', () => newRoute({ destination: '10.0.0.0/8', source: 'fd00::1' })],
    ['fwmark 0', () => newService(32, { family: 'inet', fwmark: 0 }, { scheduler: 'rr' })],
    ['a scheduler of 16 bytes', () => newService(32, { family: 'inet', fwmark: 1 }, { scheduler: 'x'.repeat(16) })],
    ['a bitmap without range', () => createSet({ name: 's', type: 'bitmap:port' })],
    ['a set name of 32 bytes', () => addEntry('s'.repeat(32), { port: 1 })],
    ['prefix 0 in a set', () => addEntry('s', { address: '0.0.0.0', prefix: 0 })],
    ['a port of 17 bits', () => addEntry('s', { port: 65_536 })],
    ['a negative MTU', () => setLink({ index: 1 }, { mtu: -1 })],
  ])('%s', (_what, encode) => {
    expect(encode).toThrow(MeshError);
  });
});

describe('attributes', () => {
  it('are padded, nested and read back', () => {
    const writer = new AttributeWriter(4);
    writer.putU8(1, 7).nested(2, () => writer.putString(3, 'abc', 8).putFlag(4));
    const bytes = writer.finish();
    expect(Buffer.from(bytes).toString('hex')).toBe('0500010007000000100002000800030061626300' + '04000400');
    const read = new Attributes(bytes);
    expect([read.u8(1), read.nested(2)?.string(3), read.nested(2)?.has(4), read.u8(9)]).toEqual([
      7,
      'abc',
      true,
      undefined,
    ]);
  });

  it('fail on invalid lengths, and ignore trailing bytes shorter than a header', () => {
    expect(toDecodeResult('x', () => new Attributes(hex('0300 0100')))).toMatchObject({ ok: false });
    expect(toDecodeResult('x', () => new Attributes(hex('0000 0100')))).toMatchObject({ ok: false });
    expect(toDecodeResult('x', () => new Attributes(hex('0900 0100 00000000')))).toMatchObject({ ok: false });
    expect(toDecodeResult('x', () => new Attributes(hex('0500 0100 00')).u32(1))).toMatchObject({ ok: false });
    expect(toDecodeResult('x', () => new Attributes(hex('0400 0100 0300')).list().length)).toEqual({
      ok: true,
      value: 1,
    });
  });

  it('the last of repeated attributes counts, as in the kernel', () => {
    expect(new Attributes(hex('0500 0100 01000000 0500 0100 02000000')).u8(1)).toBe(2);
  });

  it('rethrow errors that are not a MeshError', () => {
    expect(() =>
      toDecodeResult('x', () => {
        throw new RangeError('a bug');
      }),
    ).toThrow(RangeError);
  });

  it('have a maximum size', () => {
    const writer = new AttributeWriter();
    expect(() => writer.put(1, new Uint8Array(65_532))).toThrow(MeshError);
    expect(() => writer.zeros(2 << 20)).toThrow(MeshError);
    expect(
      addEntries(
        's',
        Array.from({ length: 1201 }, () => ({ port: 1 })),
      ),
    ).toHaveLength(3);
    const [added] = addEntries('s', [{ port: 1 }]);
    const [deleted] = deleteEntries('s', [{ port: 1 }]);
    expect(deleted).toEqual({ ...added, type: 0x60a });
  });
});

describe('acknowledgements', () => {
  const ack = (flags: number, payload: string) =>
    decodeAck({ type: 2, flags, sequence: 5, portId: 0, payload: hex(payload) });
  const header = '20000000 10000500 05000000 00000000';

  it('contain the message of the kernel, after a capped or an echoed request', () => {
    const text = '0b000100 6e6f206c75636b00 08000200 14000000';
    const expected = { ok: true, value: { sequence: 5, errno: 22, code: 'EINVAL', text: 'no luck', offset: 20 } };
    const padded = text.replace('6e6f206c75636b00', '6e6f206c75636b 00').replace('0b000100', '0c000100');
    expect(ack(0x300, `eaffffff ${header} ${padded}`)).toEqual(expected);
    expect(ack(0x200, `eaffffff ${header} ${'00'.repeat(16)} ${padded}`)).toEqual(expected);
  });

  it('contain the allowed values and the missing attribute', () => {
    const policy = '28000480 08000100 04000000 0c000400 0100000000000000 0c000500 ff00000000000000 04000b00';
    expect(ack(0x300, `eaffffff ${header} ${policy}`)).toMatchObject({
      value: { policy: { type: 4, min: 1, max: 255 } },
    });
    const missing = '08000500 06000000 08000600 10000000';
    expect(ack(0x300, `eaffffff ${header} ${missing}`)).toMatchObject({ value: { missing: { type: 6, nest: 16 } } });
  });

  it('may be the end of a dump, with or without an error', () => {
    expect(decodeAck({ type: 3, flags: 2, sequence: 1, portId: 0, payload: hex('') })).toMatchObject({
      value: { errno: 0 },
    });
    expect(decodeAck({ type: 3, flags: 2, sequence: 1, portId: 0, payload: hex('feffffff') })).toMatchObject({
      value: { errno: 2, code: 'ENOENT' },
    });
  });

  it('are rejected when truncated or of another type', () => {
    expect(ack(0, 'ffff')).toMatchObject({ ok: false });
    expect(ack(0x200, 'ffffffff 2000')).toMatchObject({ ok: false });
    expect(decodeAck({ type: 16, flags: 0, sequence: 1, portId: 0, payload: hex('00000000') })).toMatchObject({
      ok: false,
    });
    expect(decodeMessages(hex('0f000000 02000000 00000000 00000000'))).toMatchObject({ ok: false });
    expect(decodeMessages(hex('14000000 02000000 00000000 00000000'))).toMatchObject({ ok: false });
    expect(decodeMessages(hex('10000000 02000000 00000000 00000000 00'))).toMatchObject({ ok: false });
    expect(decodeMessages(hex(''))).toEqual({ ok: true, value: [] });
  });

  it('have names', () => {
    expect([0, 1, 17, 19, 95, 105, 133, 524].map((errno) => errorName(errno))).toEqual([
      'OK',
      'EPERM',
      'EEXIST',
      'ENODEV',
      'EOPNOTSUPP',
      'ENOBUFS',
      'EHWPOISON',
      'ENOTSUPP',
    ]);
    expect([4100, 4114, 41, 5000].map((errno) => errorName(errno))).toEqual([
      'IPSET_ERR_BUSY',
      'IPSET_ERR_SKBINFO',
      'errno 41',
      'IPSET_ERR_TYPE_SPECIFIC+648',
    ]);
    expect([errorName(4352, 'bitmap:port'), errorName(4352, 'hash:ip')]).toEqual([
      'IPSET_ERR_BITMAP_RANGE',
      'IPSET_ERR_HASH_FULL',
    ]);
  });
});
