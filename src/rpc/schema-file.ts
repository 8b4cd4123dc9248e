import {
  createFileRegistry,
  type DescEnumValue,
  type DescField,
  type DescFile,
  type DescMessage,
} from '@bufbuild/protobuf';
import type { GenExtension } from '@bufbuild/protobuf/codegenv2';
import type { FileDescriptorProto } from '@bufbuild/protobuf/wkt';
import type * as options from './gen/options_pb.js';

/**
 * A file of the schema, from its descriptor as generate.mjs embeds it and the files that it imports.
 * @public called by generated code
 */
export function schemaFile(descriptor: FileDescriptorProto, imports: DescFile[]): DescFile {
  const imported = (name: string) => imports.find(({ proto }) => proto.name === name);
  return createFileRegistry(descriptor, imported).getFile(descriptor.name)!;
}

type CustomOptions = {
  // biome-ignore lint/suspicious/noExplicitAny: an option of whatever is extended
  [Name in keyof typeof options]?: (typeof options)[Name] extends GenExtension<any, infer Value> ? Value : never;
};

/** The options of options.proto that a field, value or message has in the schema. */
export function customOptions({ proto }: DescField | DescEnumValue | DescMessage): CustomOptions {
  return (proto.options ?? {}) as CustomOptions;
}
