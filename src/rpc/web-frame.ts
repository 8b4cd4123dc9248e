/*
 * Frames of gRPC-Web (grpc/grpc, doc/PROTOCOL-WEB.md): a byte of flags, the length in 32 bits big endian, the message;
 * the last of a reply carries the trailers as lines of HTTP/1.
 */

export const MEDIA_TYPE = 'application/grpc-web+proto';

/** Bytes before the message. */
export const PREFIX = 5;

/** Flag of the frame that carries trailers; 0 is a message that is not compressed. */
export const TRAILERS = 0x80;

export function isTrailers(flags: number): boolean {
  return (flags & TRAILERS) !== 0;
}

export function framed(flags: number, message: Buffer): Buffer {
  const prefix = Buffer.alloc(PREFIX);
  prefix[0] = flags;
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
