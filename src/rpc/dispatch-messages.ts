import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { MeshError, messageOf } from '../base/errors.ts';
import { check } from './check.ts';
import { agentMessage, managerMessage } from './check-messages.ts';
import { AgentMessageSchema, ManagerMessageSchema } from './gen/dispatch_pb.js';
import type { AgentMessage, ManagerMessage } from './messages.ts';
import { fromPlain, toPlain } from './plain.ts';

/* The messages of Dispatch as bytes. Reading checks everything and throws MeshError `invalid` naming the field. */

export function writeAgentMessage(message: AgentMessage): Buffer {
  return buffer(toBinary(AgentMessageSchema, fromPlain(AgentMessageSchema, message)));
}

export function readAgentMessage(bytes: Uint8Array): AgentMessage {
  return check(
    agentMessage,
    toPlain(
      AgentMessageSchema,
      decoded(() => fromBinary(AgentMessageSchema, bytes)),
    ),
    '',
  );
}

export function writeManagerMessage(message: ManagerMessage): Buffer {
  return buffer(toBinary(ManagerMessageSchema, fromPlain(ManagerMessageSchema, message)));
}

export function readManagerMessage(bytes: Uint8Array): ManagerMessage {
  return check(
    managerMessage,
    toPlain(
      ManagerMessageSchema,
      decoded(() => fromBinary(ManagerMessageSchema, bytes)),
    ),
    '',
  );
}

/** The same memory as grpc-js has it. */
function buffer({ buffer: memory, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(memory, byteOffset, byteLength);
}

function decoded<T>(decode: () => T): T {
  try {
    return decode();
  } catch (thrown) {
    throw new MeshError('invalid', `a message cannot be read: ${messageOf(thrown)}`);
  }
}
