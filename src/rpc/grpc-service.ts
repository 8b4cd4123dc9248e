import type { DescService } from '@bufbuild/protobuf';
import type { ServiceDefinition } from '@grpc/grpc-js';

/** How grpc-js carries the messages of a service: as bytes, so that what waits in a queue has a known size. */
export function grpcDefinition(service: DescService): ServiceDefinition {
  const same = (bytes: Buffer) => bytes;
  return Object.fromEntries(
    service.methods.map((method) => [
      method.localName,
      {
        path: `/${service.typeName}/${method.name}`,
        requestStream: method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming',
        responseStream: method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming',
        requestSerialize: same,
        requestDeserialize: same,
        responseSerialize: same,
        responseDeserialize: same,
      },
    ]),
  );
}
