import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import { MeshError, messageOf } from '../base/errors.ts';
import { check } from './check.ts';
import { agentMessage, managerMessage } from './check-messages.ts';
import { AgentMessageSchema, ManagerMessageSchema } from './gen/dispatch_pb.js';
import type { AgentMessage, ManagerMessage } from './messages.ts';
import type { Plain } from './plain.ts';
import { plainFromBinary, plainToBinary } from './plain-binary.ts';

/* The messages of Dispatch as bytes. Reading checks everything and throws MeshError `invalid` naming the field. */

export function writeAgentMessage(message: AgentMessage): Buffer {
  return buffer(plainToBinary(AgentMessageSchema, message));
}

export function readAgentMessage(bytes: Uint8Array): AgentMessage {
  return check(agentMessage, decoded(AgentMessageSchema, bytes), '');
}

export function writeManagerMessage(message: ManagerMessage): Buffer {
  return buffer(plainToBinary(ManagerMessageSchema, message));
}

export function readManagerMessage(bytes: Uint8Array): ManagerMessage {
  return check(managerMessage, decoded(ManagerMessageSchema, bytes), '');
}

/** The same memory as grpc-js has it. */
function buffer({ buffer: memory, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): Buffer {
  return Buffer.from(memory, byteOffset, byteLength);
}

function decoded<Desc extends DescMessage>(desc: Desc, bytes: Uint8Array): Plain<MessageShape<Desc>> {
  try {
    return plainFromBinary(desc, bytes);
  } catch (thrown) {
    throw new MeshError('invalid', `a message cannot be read: ${messageOf(thrown)}`);
  }
}
