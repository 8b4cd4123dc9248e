import { execFileSync } from 'node:child_process';
import {
  type AnyDesc,
  clone,
  createFileRegistry,
  type DescFile,
  fromBinary,
  getOption,
  toBinary,
} from '@bufbuild/protobuf';
import { nestedTypes } from '@bufbuild/protobuf/reflect';
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { file_dispatch } from './gen/dispatch_pb.js';
import { file_mesh } from './gen/mesh_pb.js';
import { optional_list, union, word } from './gen/options_pb.js';
import { customOptions } from './schema-file.ts';

/* The reference is what the library makes of the descriptors that buf compiles. */

const [command, ...flags] = ['../../node_modules/.bin/buf', 'build', '--exclude-source-info', '-o', '-'];
const compiled = createFileRegistry(
  fromBinary(FileDescriptorSetSchema, execFileSync(command!, flags, { cwd: import.meta.dirname })),
);
const files = [file_mesh, file_dispatch].map((file) => [file, compiled.getFile(file.proto.name)!] as const);

test.each(files)('%s has the descriptor that buf compiles, without custom options', (embedded, reference) => {
  const expected = clone(FileDescriptorProtoSchema, reference.proto);
  expected.dependency = expected.dependency.filter((name) => name !== 'options.proto');
  const bytes = toBinary(FileDescriptorProtoSchema, expected, { writeUnknownFields: false });
  expect(toBinary(FileDescriptorProtoSchema, embedded.proto)).toEqual(bytes);
});

test.each(files)('%s has the members of the file that the library makes', (embedded, reference) => {
  const withoutOptions = reference.dependencies.filter(({ name }) => name !== 'options');
  expect(members(embedded)).toEqual(members({ ...reference, dependencies: withoutOptions }));
  expect(parts(embedded).map(members)).toEqual(parts(reference).map(members));
});

test.each(files)('%s has the custom options as properties', (embedded, reference) => {
  const found = parts(embedded).map((desc) => {
    if (desc.kind === 'field') return customOptions(desc).optional_list ?? false;
    if (desc.kind === 'message') return customOptions(desc).union ?? false;
    return desc.kind === 'enum_value' ? (customOptions(desc).word ?? '') : undefined;
  });
  const expected = parts(reference).map((desc) => {
    if (desc.kind === 'field') return getOption(desc, optional_list);
    if (desc.kind === 'message') return getOption(desc, union);
    return desc.kind === 'enum_value' ? getOption(desc, word) : undefined;
  });
  expect(found).toEqual(expected);
  expect(found).toContain(true);
});

/** Everything in a file. */
function parts(file: DescFile): AnyDesc[] {
  return [...nestedTypes(file)].flatMap((desc): AnyDesc[] => {
    switch (desc.kind) {
      case 'message':
        return [desc, ...desc.fields, ...desc.oneofs];
      case 'enum':
        return [desc, ...desc.values];
      case 'service':
        return [desc, ...desc.methods];
      default:
        return [desc];
    }
  });
}

/** The properties of a descriptor, with other descriptors by their names; `proto` is compared as bytes. */
function members({ proto, ...desc }: AnyDesc): unknown {
  const isDesc = (value: unknown) => typeof value === 'object' && value !== null && 'kind' in value;
  return Object.fromEntries(
    Object.entries(desc).map(([key, value]) => {
      if (key === 'toString' || key === 'getDefaultValue') return [key, value?.call(desc)];
      return [key, JSON.parse(JSON.stringify([value], (_, part) => (isDesc(part) ? String(part) : part)))];
    }),
  );
}
